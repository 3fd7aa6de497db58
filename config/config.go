package config

import (
	"io/fs"
	"log/slog"

	"sidestream/proxy"
	"sidestream/proxy/history"
	"sidestream/proxy/outbound"
	"sidestream/proxy/upstream"
)

// Config is the whole validated configuration of one sidecar. The routes are in order of their names.
type Config struct {
	proxy.Settings

	Listen        string         // public address, host:port, or unix: and the path of a Unix socket
	ListenMode    fs.FileMode    // permissions of that socket; 0 without one
	AdminListen   string         // address of health, metrics and status; "" when off
	History       history.Opener // where events are kept; nil: nowhere but in memory
	AdminToken    string         // for the admin port, from elsewhere than this machine; "": none
	AdminPayloads bool           // the admin port shows events
	AdminHosts    []string       // further Host names that the admin port answers to, lower case, without ports
	UpstreamFile  bool           // Upstream was read from a file, since it holds a secret: its path is not shown
	MaxValue      int            // bytes of one value of a client's request in a template
	LogLevel      slog.Level
	LogFormat     string // auto, text or json

	secrets *upstream.Secrets
	forward outbound.Proxies
	given   allGiven
	saw     sighted // its files, as they were when it was read; nil: that was not noted
}
