package dialect_test

import (
	"context"
	"fmt"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// A connection to a Phoenix socket: where to dial, what to send, and what becomes of what arrives.
func Example() {
	phoenix, err := dialect.Find("phoenix")
	if err != nil {
		panic(err)
	}
	session := phoenix.New(dialect.Options{
		Dial:      func() (dialect.Dial, error) { return dialect.Dial{URL: "wss://legacy.example/socket"}, nil },
		Subscribe: func() ([]string, error) { return []string{`room:lobby {"since":0}`}, nil },
	})

	dial, err := session.Dial(nil)
	fmt.Println("dial", dial.URL, err)

	frames, err := session.Open("") // the connection is open
	for _, f := range frames {
		fmt.Printf("send %s %v\n", f.Data, err)
	}

	for _, arrives := range []string{
		`["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]`,
		`["1",null,"room:lobby","said",{"text":"hello"}]`,
	} {
		got, err := session.Receive(context.Background(), time.Now(), dialect.Frame{Data: []byte(arrives)})
		fmt.Println("ready", got.Ready, err)
		for _, m := range got.Messages {
			fmt.Printf("message %s %s of %s\n", m.Event, m.Data, m.Topic)
		}
	}
	// Output:
	// dial wss://legacy.example/socket/websocket?vsn=2.0.0 <nil>
	// send ["1","1","room:lobby","phx_join",{"since":0}] <nil>
	// ready true <nil>
	// ready false <nil>
	// message said {"text":"hello"} of room:lobby
}

// What a route adds is wrapped around any dialect: here a message to send, an answer to wait for, and a reply to the service's pings.
func ExampleScript() {
	code := func(setting, program string) *translate.Code {
		c, err := translate.CompileJQ(setting, program)
		if err != nil {
			panic(err)
		}
		return c
	}
	script := dialect.Script{
		Steps: []dialect.Step{
			{Send: translate.Literal(`{"subscribe":"prices"}`)},
			{Wait: code("HELLO", ".subscribed")},
		},
		Reply: code("REPLY", `select(.ping)|{pong:.ping}`),
	}
	raw, err := dialect.Find("raw")
	if err != nil {
		panic(err)
	}
	session := script.Wrap(raw.New(dialect.Options{}))

	frames, _ := session.Open("")
	fmt.Printf("send %s\n", frames[0].Data)
	for _, arrives := range []string{`{"subscribed":true}`, `{"ping":7}`} {
		got, _ := session.Receive(context.Background(), time.Now(), dialect.Frame{Data: []byte(arrives)})
		fmt.Println("ready", got.Ready, "messages", len(got.Messages))
		for _, f := range got.Replies {
			fmt.Printf("send %s\n", f.Data)
		}
	}
	// Output:
	// send {"subscribe":"prices"}
	// ready true messages 0
	// ready false messages 1
	// send {"pong":7}
}
