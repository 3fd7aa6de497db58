package learn

import (
	"slices"
	"strings"
	"unicode/utf8"

	"sidestream/translate/decode"
)

// said is one message of a conversation, as conclusions see it.
type said struct {
	Frame
	packed decode.Step // what a service's binary message was in, and is no more; "" nothing that is known
	leaves []leaf
	json   bool   // an object or a list
	shape  string // equal for messages that are built alike and say the same kind of thing
}

// talk is a conversation, message by message.
type talk struct {
	*Conversation
	all  []said
	open []int // its opening: indexes of what the client sent to begin with
}

// kinds are the names of fields that tell one kind of message from another, the surest first.
var kinds = []string{"type", "event", "op", "action", "method", "cmd", "command", "kind", "msg", "messageType", "message_type", "msgType", "eventType", "event_type", "eventName", "t", "e", "request", "req", "name", "topic", "channel", "stream"}

// kindDepth is how deep in a message such a field is looked for.
const kindDepth = 2

// isKind reports whether a leaf tells kinds of messages apart, for its name and its value.
func isKind(l leaf) bool {
	i := slices.Index(kinds, l.key)
	return i >= 0 && i < slices.Index(kinds, "name") && l.depth <= kindDepth && len(l.text) <= 48 && shows(l.text) && !strings.Contains(l.path, "[")
}

// newSaid looks at a frame.
func newSaid(f Frame) said {
	s := said{Frame: f}
	s.unpack()
	if isObject(s.Data) {
		s.leaves, s.json = leavesOf(s.Data)
	}
	s.shape = s.form()
	return s
}

// usualRatio bounds what a message may become, in its own size: text is seldom compressed by more.
const usualRatio = 20

// unpack undoes the compression of a service's message that begins as gzip or zlib does, and decodes.
func (s *said) unpack() {
	step := decode.Gzip
	switch {
	case s.FromClient || !s.Binary || s.Cut || len(s.Data) < 2:
		return
	case s.Data[0] == 0x78 && (int(s.Data[0])<<8|int(s.Data[1]))%31 == 0:
		step = decode.Zlib
	case s.Data[0] != 0x1f || s.Data[1] != 0x8b:
		return
	}
	data, err := decode.Steps{step}.Decode(s.Data, min(maxFrame, usualRatio*len(s.Data)))
	if err == nil && utf8.Valid(data) {
		s.Data, s.Binary, s.packed = data, false, step
	}
}

var indexes = lazily(`\[[0-9]+\]`)

// form is what shape is: the names of all fields, and the values of those that tell kinds apart.
func (s *said) form() string {
	if !s.json {
		text := strings.TrimSpace(string(s.Data))
		if s.Binary || s.Cut || len(text) > 32 || random(text) || !utf8.ValidString(text) {
			return "text"
		}
		return "text " + digitRuns.ReplaceAllString(text, "0")
	}
	var parts []string
	for _, l := range s.leaves {
		part := indexes.ReplaceAllString(l.path, "[]")
		if isKind(l) {
			part += "=" + l.text
		}
		if !slices.Contains(parts, part) && len(parts) < 64 {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

var digitRuns = lazily(`[0-9]{3,}`)

// newTalk looks at a conversation's frames.
func newTalk(c *Conversation) *talk {
	t := &talk{Conversation: c}
	for _, f := range c.Frames {
		t.all = append(t.all, newSaid(f))
	}
	return t
}

// get is the leaf of s at path.
func (s *said) get(path string) (leaf, bool) {
	for _, l := range s.leaves {
		if l.path == path {
			return l, true
		}
	}
	return leaf{}, false
}

// kind is what a message says it is: its first field that tells, or a text that is short.
func (s *said) kind() string {
	if !s.json {
		return strings.TrimPrefix(s.shape, "text ")
	}
	best, found := "", len(kinds)
	for _, l := range s.leaves {
		if i := slices.Index(kinds, l.key); i >= 0 && i < found && isKind(l) {
			best, found = l.text, i
		}
	}
	return best
}

var (
	pingLike    = lazily(`(?i)^([a-z]+[:._-])?(ping|pong|heart_?-?beat|hb|keep_?-?alive|ka|h)$`)
	welcomeLike = lazily(`(?i)welcome|hello|auth_?required|connected|connection|ready|challenge|^status$|^info$|^open(ed)?$|^init`)
	ackLike     = lazily(`(?i)subscribed|subscription|succe|^ok$|^ack|auth_?ok|authenticated|^result|response|reply|confirm|joined|ready|logged|accepted|welcome`)
	refusalLike = lazily(`(?i)error|invalid|denied|unauthor|forbidden|reject|fail|not_?allowed`)
)

// pings reports whether s looks like a keepalive.
func (s *said) pings() bool { return pingLike.MatchString(s.kind()) }

// refuses reports whether s looks as if it said no.
func (s *said) refuses() bool {
	if refusalLike.MatchString(s.kind()) {
		return true
	}
	for _, l := range s.leaves {
		if l.depth <= kindDepth && (l.key == "success" || l.key == "ok") && l.text == "false" || l.depth == 1 && l.key == "status" && refusalLike.MatchString(l.text) {
			return true
		}
	}
	return false
}

// accepts reports whether s looks as if it said yes.
func (s *said) accepts() bool {
	if ackLike.MatchString(s.kind()) {
		return true
	}
	for _, l := range s.leaves {
		if l.depth <= kindDepth && (l.key == "success" || l.key == "ok") && l.text == "true" || l.depth == 1 && l.key == "status" && ackLike.MatchString(l.text) {
			return true
		}
	}
	return false
}

// idKeys are fields that tie an answer to a question.
var idKeys = lazily(`(?i)^(id|ref|seq|req_?id|request_?id|reply_?to|seq_?reply|nonce|msg_?id|message_?id|correlation_?id|rid|uuid)$`)

// answers reports whether s has an id that question has.
func (s *said) answers(question *said) bool {
	for _, q := range question.leaves {
		if !idKeys.MatchString(q.key) || q.text == "" || q.text == "null" {
			continue
		}
		for _, a := range s.leaves {
			same := a.key == q.key || strings.Contains(strings.ToLower(a.key), "repl") || len(a.text) >= leastEqual+2
			if same && idKeys.MatchString(a.key) && a.text == q.text && a.depth <= kindDepth {
				return true
			}
		}
	}
	return false
}

// dataLike are words for messages that hold what a feed is about.
var dataLike = lazily(`(?i)snapshot|data|update|initial|state|full|list|history|message|event|change|delta|tick|price|trade`)

// echoes reports whether s is small, has a value of question, and does not look like what the feed is about: what is waited for is no event, so that a
// snapshot must not be taken for an answer.
func (s *said) echoes(question *said) bool {
	if len(s.leaves) > 8 || dataLike.MatchString(s.kind()) {
		return false
	}
	for _, l := range s.leaves {
		if !l.quoted || len(l.text) < leastEqual {
			continue
		}
		if strings.Contains(l.path, "[") || dataLike.MatchString(l.key) {
			return false
		}
		if slices.ContainsFunc(question.leaves, func(q leaf) bool { return q.text == l.text && q.quoted }) {
			return true
		}
	}
	return false
}
