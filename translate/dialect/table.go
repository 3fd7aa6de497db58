package dialect

import (
	"fmt"
	"strings"
	"time"

	"sidestream/translate/decode"
)

// What becomes of binary messages (BINARY).
const (
	BinaryBase64 = "base64" // standard encoding with padding (RFC 4648, section 4)
	BinaryText   = "text"   // taken as UTF-8
	BinaryDrop   = "drop"
)

// Options are what a dialect needs of its route and request.
type Options struct {
	Dial       func() (Dial, error)     // the request's own address, header and subprotocols, computed for each dial
	Connect    func() (string, error)   // CONNECT with its placeholders filled in, "" when unset; for each connection
	Subscribe  func() ([]string, error) // the lines of SUBSCRIBE, likewise
	Decode     decode.Steps             // what binary payloads go through instead of Binary; none: nothing
	Binary     string                   // one of the Binary constants; "" is BinaryBase64
	MaxMessage int                      // bytes of a message put together out of several frames; 0 no bound
	Posts      bool                     // frames are the bodies of POSTs, and their answers
	Separator  string                   // raw: what ends a record where a frame may hold several; "" a frame is one
	Speaks     bool                     // clients, REPLY or PING may send on a connection that is ready
	Carried    bool                     // the session is inside of another protocol's
	Now        func() time.Time         // the time, for what is signed with it; nil: year 1
	Operation  bool                     // GraphQL: the line of SUBSCRIBE is one client's own request, and what becomes of it is its to read
}

// Place is where the values of clients stand in the lines of SUBSCRIBE.
type Place int

const (
	NoSubscribe   Place = iota // the dialect takes no SUBSCRIBE
	TextLine                   // JSON, or a text with JSON's brackets
	TopicLine                  // a topic up to the first blank, then as TextLine
	NamespaceLine              // as TopicLine, but the topic may be followed by a URL's query
	MethodLine                 // as TopicLine, but the word "stream" may come first
	SubjectLine                // as TopicLine, but levels are between dots
	MemberLine                 // as SubjectLine, but a value is one level also where it is the whole of the topic
	DottedLine                 // as SubjectLine, where there is a dot in the topic beside the values
	ChannelLine                // as TopicLine, but a namespace may stand before the first colon
	PathLine                   // as TopicLine where it begins with /, else as TextLine
)

// Dialect is one row of the table of dialects.
type Dialect struct {
	Name         string
	New          func(Options) Session
	Subprotocols []string // offered unless SUBPROTOCOL is set
	Connects     bool     // takes CONNECT
	Subscribes   Place
	Required     bool // SUBSCRIBE must be set
	Binary       bool // its messages are binary, which SockJS cannot carry
	Decodes      bool // has payloads that may be packed, and so takes DECODE
	Posts        bool // it may be spoken over HTTP as well: see [Frame]
	Stream       bool // messages are pieces of one byte stream; it is read in other pieces, and has bounds of its own

	// Unchosen is what to change when a server chooses none of Subprotocols; "" is to check SUBPROTOCOL.
	Unchosen string
	Operates bool // clients may bring what to subscribe to themselves: see [Options].Operation

	// Check looks at CONNECT and the lines of SUBSCRIBE, in which placeholders stand as 0, before anything is
	// dialled; its errors name what to write instead. nil: nothing to check. connect and subscribe are joined in one
	// error when both are wrong, each as *[CheckError].
	Check func(connect string, subscribe []string) error

	// ClientID is the name in CONNECT that connections must not have in common: each would disconnect the other. "" is
	// one made up for each stream. nil: there is no such thing.
	ClientID func(connect string) string
	Resumes  string // what a session of another process goes on with, for people; "" nothing
}

// CheckError is what is wrong with one of a dialect's settings.
type CheckError struct {
	Setting string // CONNECT or SUBSCRIBE
	Problem string // with the fix; holds no value
}

func (e *CheckError) Error() string { return e.Setting + ": " + e.Problem }

// Table is the dialects that this version speaks, by the name that PROTOCOL gives them.
var Table = []Dialect{
	{Name: "raw", New: newRaw, Decodes: true},
	{Name: "socket.io", New: newSocketIO, Connects: true, Subscribes: NamespaceLine, Check: checkSocketIO,
		Resumes: "Socket.IO's connection state recovery, where the server has it"},
	{Name: sioPacked, New: newPackedSocketIO, Binary: true, Connects: true, Subscribes: NamespaceLine, Check: checkSocketIO,
		Resumes: "Socket.IO's connection state recovery, where the server has it"},
	{Name: "socket.io-v2", New: newSocketIOv2, Subscribes: NamespaceLine, Check: checkSocketIOv2},
	{Name: gqlTransport, New: newGraphQLTransport, Subprotocols: []string{gqlTransport}, Connects: true, Subscribes: TextLine, Required: true, Check: checkGraphQL,
		Unchosen: "write PROTOCOL=" + gqlLegacy, Operates: true},
	{Name: gqlLegacy, New: newGraphQLLegacy, Subprotocols: []string{gqlLegacy}, Connects: true, Subscribes: TextLine, Required: true, Check: checkGraphQL,
		Unchosen: "write PROTOCOL=" + gqlTransport, Operates: true},
	{Name: "actioncable", New: newActionCable, Subprotocols: cableOffered, Subscribes: TextLine, Required: true, Check: checkActionCable,
		Resumes: "AnyCable's history, where the server has it"},
	{Name: "stomp", New: newStomp, Decodes: true, Stream: true, Subprotocols: []string{"v12.stomp", "v11.stomp"}, Connects: true, Subscribes: DottedLine, Required: true, Check: checkStomp},
	{Name: "mqtt", New: newMQTT, Binary: true, Decodes: true, Stream: true, Subprotocols: []string{"mqtt"}, Connects: true, Subscribes: TopicLine, Required: true, Check: checkMQTT, ClientID: mqttClientID,
		Resumes: "the session at the broker, where everything is subscribed to with QoS 1 or 2 and the broker keeps it"},
	{Name: "phoenix", New: newPhoenix, Decodes: true, Subscribes: TopicLine, Required: true, Check: checkPhoenix},
	{Name: "signalr", New: newSignalR, Subscribes: MethodLine, Check: checkSignalR,
		Resumes: "SignalR's stateful reconnect, where the server has it, unless clients, REPLY or PING send"},
	{Name: hubPacked, New: newPackedSignalR, Binary: true, Subscribes: MethodLine, Check: checkSignalR,
		Resumes: "SignalR's stateful reconnect, where the server has it, unless clients, REPLY or PING send"},
	{Name: classicName, New: newSignalRClassic, Subscribes: MemberLine, Check: checkSignalRClassic,
		Resumes: "the connection's token and cursor, within its DisconnectTimeout, where the server has no backplane"},
	{Name: "wamp", New: newWAMP, Subprotocols: []string{wampSubprotocol}, Connects: true, Subscribes: DottedLine, Required: true, Check: checkWAMP},
	{Name: "bayeux", New: newBayeux, Connects: true, Subscribes: TopicLine, Required: true, Posts: true, Check: checkBayeux,
		Resumes: "the client's id, and what the server has kept for it; without the extension ack or replay a gap is said all the same"},
	{Name: "jsonrpc", New: newJSONRPC, Subscribes: TopicLine, Check: checkJSONRPC},
	{Name: "centrifuge", New: newCentrifuge, Connects: true, Subscribes: ChannelLine, Check: checkCentrifuge,
		Resumes: "the epoch and the offset of each channel, where the server keeps its history"},
	{Name: "nats", New: newNATS, Binary: true, Decodes: true, Stream: true, Connects: true, Subscribes: SubjectLine, Required: true, Check: checkNATS,
		Resumes: "the numbers of JetStream's messages, where every line of SUBSCRIBE names a stream"},
	{Name: pubSubName, New: newWebPubSub, Decodes: true, Subprotocols: []string{pubSubSubprotocol}, Subscribes: TopicLine, Check: checkWebPubSub,
		Resumes: "the session at the service, which keeps it for about a minute, unless clients, REPLY or PING send"},
	{Name: "appsync", New: newAppSync, Connects: true, Subscribes: PathLine, Required: true, Check: checkAppSync},
	{Name: "ddp", New: newDDP, Connects: true, Subscribes: TopicLine, Required: true, Check: checkDDP},
	{Name: "parse", New: newParse, Connects: true, Subscribes: TopicLine, Required: true, Check: checkParse},
	{Name: "sockjs", New: newSockJS},
}

// Find returns the dialect called name; sockjs+ before a name is that dialect over SockJS. The error lists the known ones.
func Find(name string) (Dialect, error) {
	inner, over := strings.CutPrefix(name, sockJSPrefix)
	var known []string
	for _, d := range Table {
		switch {
		case over && d.Name == inner && d.Binary:
			return Dialect{}, fmt.Errorf("%q: SockJS carries text alone, and %s is binary; write %s, and in FROM the address of a WebSocket without SockJS", name, inner, inner)
		case over && d.Name == inner && inner != "sockjs":
			return overSockJS(d), nil
		case d.Name == name:
			return d, nil
		}
		known = append(known, d.Name)
	}
	return Dialect{}, fmt.Errorf("%q is not a dialect; write one of %s, or "+sockJSPrefix+" and one of them, such as "+sockJSPrefix+"stomp", name, strings.Join(known, ", "))
}
