package proxy_test

import (
	"sidestream/config"
	"sidestream/proxy"
)

func init() {
	proxy.Configure = func(env []string) (proxy.Settings, error) {
		c, err := config.Load(env, config.ReadFile)
		if err != nil {
			return proxy.Settings{}, err
		}
		return c.Settings, nil
	}
}
