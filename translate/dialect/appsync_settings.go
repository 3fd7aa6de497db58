// This file reads FROM, CONNECT and SUBSCRIBE for the dialect appsync.

package dialect

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// appSyncAddress is an API of AppSync's.
type appSyncAddress struct {
	events   bool
	realtime string // where its WebSocket is
	host     string // of the API itself, with the port if there is one
	path     string // its escaped path
	region   string // "": its address does not tell
}

// appSyncHost is the name of an API that has none of its own, with what follows its id: the API's, or its real-time endpoint's.
var appSyncHost = regexp.MustCompile(`^([a-z0-9]+)\.appsync-(?:realtime-)?api\.([a-z0-9-]+)\.(amazonaws\.com(?:\.cn)?)$`)

// appSyncAt reads an address, of an API or of its real-time endpoint:
//
//	API                                               WebSocket
//	<id>.appsync-api.<region>.amazonaws.com/graphql   <id>.appsync-realtime-api.<region>.amazonaws.com/graphql
//	<id>.appsync-api.<region>.amazonaws.com/event     <id>.appsync-realtime-api.<region>.amazonaws.com/event/realtime
//	a name of its own/graphql                         the same/graphql/realtime
//	a name of its own/event                           the same/event/realtime
//
// Without a path it is /graphql, or /event where there are channels.
func appSyncAt(address string, events bool) (at appSyncAddress, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return at, errors.New("the address is not valid")
	}
	at.events, at.host = events, u.Host
	if port := u.Port(); port == "443" && secured(u) || port == "80" && !secured(u) { // its own, which is no part of what is signed
		at.host = strings.TrimSuffix(u.Host, ":"+port)
	}
	at.path = strings.TrimSuffix(strings.TrimRight(u.EscapedPath(), "/"), "/realtime")
	if at.path == "" {
		at.path = map[bool]string{false: "/graphql", true: "/event"}[events]
	}
	switch ofEvents := strings.HasSuffix(at.path, "/event"); {
	case ofEvents && !events:
		return at, errors.New("is the address of AppSync Events, and SUBSCRIBE holds GraphQL; write channels, such as /default/news, or correct FROM")
	case events && strings.HasSuffix(at.path, "/graphql"):
		return at, errors.New("is not the address of AppSync Events, which ends in /event/realtime, and SUBSCRIBE holds channels; write a GraphQL document, or correct FROM")
	}
	path := at.path + "/realtime"
	if m := appSyncHost.FindStringSubmatch(strings.ToLower(at.host)); m != nil {
		at.host, at.region = m[1]+".appsync-api."+m[2]+"."+m[3], m[2]
		u.Host = m[1] + ".appsync-realtime-api." + m[2] + "." + m[3]
		if !events {
			path = at.path
		}
	}
	if u.Path, err = url.PathUnescape(path); err != nil {
		return at, errors.New("the address is not valid")
	}
	u.RawPath = path
	at.realtime = u.String()
	return at, nil
}

func (at appSyncAddress) subprotocol() string {
	if at.events {
		return appSyncEvents
	}
	return appSyncGraphQL
}

// connectPath is what the connection itself is signed for.
func (at appSyncAddress) connectPath() string {
	if at.events {
		return at.path
	}
	return at.path + "/connect"
}

// appSyncLogin is CONNECT: one of a key of the API, a token of a user or for a Lambda function, and a key of IAM.
type appSyncLogin struct {
	APIKey string `json:"apiKey"`
	Token  string `json:"token"`

	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"` // of a key that is temporary
	Region          string `json:"region"`       // "": the one in FROM

	Host string `json:"host"` // of the API, where FROM is another: a gateway in front of it; "": that of FROM
}

const appSyncConnectForm = `write {"apiKey":".."}, {"token":".."}, or {"accessKeyId":"..","secretAccessKey":".."} with "sessionToken" and "region" where they are needed`

func parseAppSync(connect string) (l appSyncLogin, err error) {
	if strings.TrimSpace(connect) == "" {
		return l, errors.New("is not set; " + appSyncConnectForm)
	}
	if readOnly(connect, &l) != nil || !utf8.ValidString(connect) {
		return l, errors.New("is not a JSON object of what AppSync knows; " + appSyncConnectForm)
	}
	ways := 0
	for _, way := range []bool{l.APIKey != "", l.Token != "", l.AccessKeyID != "" || l.SecretAccessKey != ""} {
		if way {
			ways++
		}
	}
	switch {
	case ways != 1:
		return l, errors.New("holds not one way to log in; " + appSyncConnectForm)
	case (l.AccessKeyID == "") != (l.SecretAccessKey == ""):
		return l, errors.New("has half of a key; " + appSyncConnectForm)
	case l.AccessKeyID == "" && (l.SessionToken != "" || l.Region != ""):
		return l, errors.New("has a sessionToken or region, which go with accessKeyId; " + appSyncConnectForm)
	case l.Region != "" && !appSyncRegion.MatchString(l.Region):
		return l, errors.New(`has a region that is none; write one such as "eu-central-1"`)
	case l.Host != "" && !appSyncHostName.MatchString(l.Host):
		return l, errors.New(`has a host that is none; write that of the API, such as "api.example.com"`)
	}
	return l, nil
}

var (
	appSyncRegion   = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	appSyncHostName = regexp.MustCompile(`^[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$`)
)

// appSyncReads is CONNECT for an API.
func appSyncReads(connect string, at appSyncAddress) (appSyncLogin, error) {
	l, err := parseAppSync(connect)
	if err != nil {
		return appSyncLogin{}, err
	}
	if l.Host == "" {
		l.Host = at.host
	}
	if l.Region == "" {
		l.Region = at.region
	}
	if m := appSyncHost.FindStringSubmatch(strings.ToLower(l.Host)); m != nil && l.Region == "" {
		l.Region = m[2]
	}
	if l.AccessKeyID != "" && l.Region == "" {
		return appSyncLogin{}, errors.New(`names no region, which FROM does not tell; add "region":"eu-central-1" or the like`)
	}
	return l, nil
}

// secrets are what a server's text may not repeat.
func (l appSyncLogin) secrets() []string {
	return []string{l.APIKey, l.Token, l.AccessKeyID, l.SecretAccessKey, l.SessionToken}
}

var errAppSyncMixed = errors.New("is of another kind than the first line: channels, which begin with /, and GraphQL are two APIs; write a route for each")

// appSyncIsChannel tells channels of Events from GraphQL.
func appSyncIsChannel(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "/") }

func appSyncSpeaksEvents(lines []string) bool { return len(lines) > 0 && appSyncIsChannel(lines[0]) }

// appSyncName is a channel: a namespace, then up to four segments, of which the last may be a wildcard.
var appSyncName = regexp.MustCompile(`^(/[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?){1,5}(/\*)?/?$`)

func appSyncChannel(channel string) error {
	if len(channel) > 512 || !appSyncName.MatchString(channel) {
		return errors.New("is not a channel: up to five segments of up to 50 letters, digits and dashes; write /default/news, or /default/* for all below it")
	}
	return nil
}

// appSyncOperation is a GraphQL operation in the form that AppSync takes it in.
func appSyncOperation(line string) (data []byte, name string, err error) {
	payload, name, err := gqlOperation(line)
	if err != nil {
		return nil, "", err
	}
	var p struct{ Query, OperationName, Variables json.RawMessage }
	if json.Unmarshal(payload, &p) != nil || isNull(p.Query) {
		return nil, "", errors.New("has no query; " + gqlLineForm)
	}
	out := map[string]any{"query": p.Query, "variables": json.RawMessage("{}")}
	if !isNull(p.Variables) {
		out["variables"] = p.Variables
	}
	if name != "" {
		out["operationName"] = name
	}
	return jsonFrame(out).Data, name, nil
}

func checkAppSync(connect string, lines []string) error {
	var problems []error
	if _, err := parseAppSync(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		channel := appSyncIsChannel(line)
		var err error
		if channel {
			err = appSyncChannel(line)
		} else {
			_, _, err = appSyncOperation(line)
		}
		if channel != appSyncIsChannel(lines[0]) {
			err = errAppSyncMixed
		}
		if err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
