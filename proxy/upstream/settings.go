package upstream

import (
	"fmt"
	"time"

	"sidestream/proxy/outbound"
	"sidestream/translate"
)

// SourceSettings are the texts of one route whose syntax this package and translate own. Durations and sizes are taken as they
// are; an empty text means the default of the environment table.
type SourceSettings struct {
	Network     outbound.Settings  // how connections are made; Socket is FROM's, and set by Compile
	PathNames   []string           // the wildcards of the route's PATH, for {path.NAME}
	Secrets     *translate.Secrets // for {secret.NAME} and $secret.name; nil: none
	Claims      []string           // what is known of an authenticated client, for {auth.NAME}
	From        string
	FromFile    bool   // FROM was read from a file, since it holds a secret: its path is not shown
	Headers     string // one "Name: value" a line
	Forward     []string
	Protocol    string // "" raw
	Connect     string
	Subscribe   string // one subscription a line
	Subprotocol []string
	Hello       string
	Reply       string
	ReplyMax    int // frames a second; 0 any number
	Ping        string
	Send        bool          // clients may send
	PingEvery   time.Duration // 0 never
	PingProgram string        // jq that yields milliseconds, instead of PingEvery
	Pong        string
	State       string
	Resumed     string
	Ticket      string
	Dial        string
	Close       string
	Separator   string        // with Go's escapes
	Idle        time.Duration // 0 never
	Every       time.Duration // 0 at once after each answer
	Mode        string        // "" changes, or every with CURSOR
	Cursor      string
	First       string // "" From
	Next        string
	Pages       int // 0 is 1, or 20 with Next
	Reset       string
	Refused     string
	Status      string
	Interval    string
	Format      string // of MODE=stream; "" by type, then first bytes
	Key         string
	Method      string
	Body        string
	Timeout     time.Duration // 0 none
	Select      string
	Event       string
	Data        string
	ID          string
	Done        string
	Decode      string // "" nothing; see package decode
	Binary      string // "" base64; without effect where Decode is set
	MaxMessage  int    // bytes
	MaxValue    int    // bytes of one value of a client's in a template; 0: 16 KiB
	NoCookies   bool   // what answers set is forgotten

	// Reread returns the settings when those of them that stand in files have changed since it was called last, else nil. It is not
	// called by two at once. Nil: none stands in a file.
	Reread  func() (*SourceSettings, error)
	Session bool // each ?session= has an upstream of its own
	Run     bool // each POST of a client's is an upstream request of its own

	Face      string // "" or sse, or FaceGraphQL
	Documents string // the text of the file of documents that clients may have run; "" any
}

// SettingError says what is wrong with one setting.
type SettingError struct {
	Setting string // the last part of the environment name, e.g. FROM
	Problem string // what is wrong, with the fix; holds no secret
}

func (e *SettingError) Error() string { return fmt.Sprintf("%s: %s", e.Setting, e.Problem) }

// What a poll emits (MODE).
const (
	ModeChanges = "changes" // when the translated result differs from the last one
	ModeEvery   = "every"   // always
	ModeItems   = "items"   // the list's new elements
	ModePatch   = "patch"   // a snapshot, then RFC 6902 patches
	ModeStream  = "stream"  // no poll: an answer that never ends
)
