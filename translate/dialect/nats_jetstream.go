// This file is JetStream as a subscriber: an ordered consumer for each line of SUBSCRIBE that names a stream.
//
//	-> $JS.API.STREAM.INFO.<stream>                      <- {"created","config":{..},"state":{"first_seq","last_seq"}}, or {"error"}
//	-> $JS.API.CONSUMER.CREATE.<stream>.<name>           <- {"name",..}, or {"error"}
//	<- MSG with reply $JS.ACK.<stream>.<consumer>.<tries>.<number in the stream>.<number of the consumer>.<time>.<pending>
//	<- HMSG 100 Idle Heartbeat, Nats-Last-Consumer       the last number of the consumer
//	<- HMSG 100 FlowControl Request                      -> its reply, once all before is kept
//	<- HMSG 409 ..                                       the consumer has ended
//
// The rules:
//
//   - A place is when the stream was made, and the number of its last message. Another time is another stream, such as one in memory after a restart: a
//     gap, and its own numbers. A first number after the one that is due means that what was missed is gone: a gap.
//   - Where a stream lets go of single messages - it keeps so many of a subject, each for a time of its own, or what nobody has asked for - numbers show nothing: if there was
//     anything new there is a gap, and then all that is left.
//   - A consumer passes over what is trimmed while it is behind without a word, as it does over what is not for the line: see nats_holes.go.
//   - A consumer's numbers have no holes. Where one is missing, or heartbeats are, or it has ended, another one is made after the last message.
//   - A consumer delivers nothing before its subject is subscribed to, which is done once all of them are there: an opening that fails has lost nothing.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

const (
	natsHeartbeat = 5 * time.Second
	natsInactive  = 30 * time.Second // without interest, after which the server lets go of a consumer
	maxNATSQuiet  = 3                // PINGs without a word of a consumer
	maxNATSRenews = 16               // consumers in a row that delivered nothing
)

// natsConsumer is the consumer of one line.
type natsConsumer struct {
	natsLine
	line    int    // from 1
	version int    // how many there were on this connection
	sid     string // that its messages come under; "": it has not begun
	at      uint64 // its number of the last message
	quiet   int    // PINGs since something came
	renews  int    // in a row
	renewed bool   // it replaces another one on this connection
	natsHoles
}

// natsPlace is how far a stream was read.
type natsPlace struct {
	created string // when the stream was
	seq     uint64 // of the last message
	hole    uint64 // the first number passed over that may have been trimmed; 0: none
}

// natsRequest is a question to JetStream.
type natsRequest struct {
	consumer *natsConsumer
	version  int    // of the consumer
	looks    bool   // at the stream; else to make a consumer
	hole     uint64 // looks whether this was trimmed; 0: no
}

type natsError struct {
	Code        int
	ErrCode     int `json:"err_code"`
	Description string
}

// request asks for something under JetStream's API.
func (s *nats) request(c *natsConsumer, looks bool, end string, body []byte) Frame {
	s.requests++
	key := strconv.Itoa(s.requests)
	s.answers[key] = natsRequest{consumer: c, version: c.version, looks: looks}
	api := "$JS.API."
	if c.domain != "" {
		api = "$JS." + c.domain + ".API."
	}
	return natsPublish(api+end, s.own("r."+key), nil, body)
}

// look asks what has become of a stream.
func (s *nats) look(c *natsConsumer) Frame {
	c.version++
	return s.request(c, true, "STREAM.INFO."+c.stream, nil)
}

// answered takes the answer to a request.
func (s *nats) answered(key string, op natsOp, got *Received) error {
	r, asked := s.answers[key]
	if !asked {
		return nil
	}
	delete(s.answers, key)
	if r.version != r.consumer.version {
		return nil // of one that has been replaced
	}
	if op.status == "503" {
		return s.failed(r, &natsError{Code: 503, Description: "nothing answers; is JetStream enabled, for this account?"})
	}
	if op.over {
		return errors.New("an answer of JetStream's is larger than MAX_MESSAGE")
	}
	var answer struct {
		Error   *natsError
		Created string
		Config  natsStream
		State   natsState
	}
	if json.Unmarshal(op.payload, &answer) != nil {
		return errNATS
	}
	if answer.Error != nil {
		return s.failed(r, answer.Error)
	}
	if r.hole > 0 {
		return s.lookedAgain(r, answer.Created, answer.State, got)
	}
	if r.looks {
		got.Replies = append(got.Replies, s.create(r.consumer, answer.Created, answer.Config, answer.State, got))
		return nil
	}
	if s.step == natsReady {
		got.Replies = append(got.Replies, s.begin(r.consumer)...)
	}
	s.settle(got)
	return nil
}

type natsStream struct {
	MaxMsgsPerSubject int64 `json:"max_msgs_per_subject"`
	Retention         string
	Storage           string
	AllowMsgTTL       bool `json:"allow_msg_ttl"`
	AllowRollup       bool `json:"allow_rollup_hdrs"`
}

type natsState struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
}

// create asks for a consumer after the place of the line. What is missing before it is a gap.
func (s *nats) create(c *natsConsumer, created string, stream natsStream, state natsState, got *Received) Frame {
	at, known := s.places[c.key()]
	sparse := stream.MaxMsgsPerSubject > 0 || stream.AllowMsgTTL || stream.AllowRollup || stream.Retention != "limits" && stream.Retention != ""
	whole := known && at.created == created && at.seq <= state.LastSeq && (state.FirstSeq <= at.seq+1 || state.LastSeq == at.seq) && !(sparse && state.LastSeq > at.seq) && !(at.hole > 0 && state.FirstSeq > at.hole)
	switch {
	case known && at.created == created && at.seq > state.LastSeq && stream.Storage == "file":
		at.seq = state.LastSeq // a disk has lost the end of it, and the rest was seen
	case !known || at.created != created || at.seq > state.LastSeq:
		at = natsPlace{created: created, seq: state.LastSeq}
		if c.all || known { // of a stream that has begun anew nothing has been seen
			at.seq = max(state.FirstSeq, 1) - 1
		}
	case state.FirstSeq > at.seq+1:
		at.seq = state.FirstSeq - 1
	}
	if s.whole = s.whole && whole; c.renewed && !whole {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	at.hole = 0
	s.places[c.key()] = at
	c.at, c.natsHoles = 0, natsHoles{behind: true}
	config := map[string]any{"name": s.consumer(c), "deliver_subject": s.own("d." + s.ending(c)), "deliver_policy": "by_start_sequence", "opt_start_seq": at.seq + 1,
		"ack_policy": "none", "max_deliver": 1, "flow_control": true, "idle_heartbeat": int64(natsHeartbeat), "inactive_threshold": int64(natsInactive), "mem_storage": true, "num_replicas": 1}
	if c.subject != ">" {
		config["filter_subject"] = c.subject
	}
	return s.request(c, false, "CONSUMER.CREATE."+c.stream+"."+s.consumer(c), jsonFrame(map[string]any{"stream_name": c.stream, "config": config}).Data)
}

// ending tells consumers apart, those of connections before too: they would go on where somebody subscribes to their subject.
func (s *nats) ending(c *natsConsumer) string {
	return fmt.Sprintf("%d.%d.%d", s.opened, c.line, c.version)
}

// consumer is the name of the present one.
func (s *nats) consumer(c *natsConsumer) string {
	return s.inbox + "-" + strings.ReplaceAll(s.ending(c), ".", "-")
}

// begin subscribes to what a consumer delivers.
func (s *nats) begin(c *natsConsumer) []Frame {
	c.sid, c.quiet = s.nextSID(), 0
	s.delivers[c.sid] = c
	return []Frame{natsFrame("SUB " + s.own("d."+s.ending(c)) + " " + c.sid + "\r\n")}
}

// renew replaces a consumer.
func (s *nats) renew(c *natsConsumer, why string) ([]Frame, error) {
	c.quiet = 0
	if c.renews++; c.renews > maxNATSRenews {
		return nil, fmt.Errorf("the consumer of line %d of SUBSCRIBE does not work: %s", c.line, why)
	}
	delete(s.delivers, c.sid)
	delete(s.answers, c.looking)
	c.renewed = true
	look := s.look(c)
	if c.sid == "" {
		return []Frame{look}, nil
	}
	out := []Frame{natsFrame("UNSUB " + c.sid + "\r\n"), look}
	c.sid = ""
	return out, nil
}

// delivered takes what a consumer says.
func (s *nats) delivered(c *natsConsumer, op natsOp, got *Received) error {
	c.quiet = 0
	why := ""
	if !strings.HasPrefix(op.subject, s.own("d.")) {
		op.status = "" // a message, whose publisher has written this
	}
	switch {
	case op.status == "100" && op.reply != "" && natsSubject(op.reply):
		got.Acks = append(got.Acks, natsPublish(op.reply, "", nil, nil)) // which lets more come
		return nil
	case op.status == "100":
		if stalled := op.first("nats-consumer-stalled"); stalled != "" && natsSubject(stalled) {
			got.Acks = append(got.Acks, natsPublish(stalled, "", nil, nil))
		}
		if last, err := strconv.ParseUint(op.first("nats-last-consumer"), 10, 64); err == nil && last == c.at {
			return nil
		}
		why = "messages were lost on the way"
	case op.status != "":
		why = serverText(op.status + " " + op.text)
	default:
		stream, own, pending, ok := natsNumbers(op.reply)
		at, known := s.places[c.key()]
		if ok && known && own == c.at+1 && stream > at.seq {
			c.at, c.renews, c.renewed = own, 0, false
			s.places[c.key()] = c.passed(at, stream, pending)
			s.emit(op, got)
			got.Replies = append(got.Replies, s.lookForHoles(c)...)
			return nil
		}
		why = "messages came out of order"
	}
	frames, err := s.renew(c, why)
	got.Replies = append(got.Replies, frames...)
	return err
}

// natsNumbers reads where a message stands in its stream, and among its consumer's, and how many are to come, out of its reply subject. With a domain or an account's hash in it there are
// two words more.
func natsNumbers(reply string) (stream, own, pending uint64, ok bool) {
	words := strings.Split(reply, ".")
	at := 5
	if len(words) >= 11 {
		at = 7
	}
	if len(words) < 9 || words[0] != "$JS" || words[1] != "ACK" {
		return 0, 0, 0, false
	}
	stream, err := strconv.ParseUint(words[at], 10, 64)
	own, err2 := strconv.ParseUint(words[at+1], 10, 64)
	pending, err3 := strconv.ParseUint(words[at+3], 10, 64)
	return stream, own, pending, err == nil && err2 == nil && err3 == nil
}

// keep makes the places of a connection that was ready those that the next one goes on from, or leaves what they were before one that was not.
func (s *nats) keep() {
	if s.before != nil && s.step != natsReady {
		s.places = s.before
	}
	places := map[string]natsPlace{}
	for _, l := range s.lines {
		if at, known := s.places[l.key()]; known && l.stream != "" {
			places[l.key()] = at
		}
	}
	s.places, s.before = places, cloned(places)
	s.opened++
}

// Failed lets go of what a connection has brought that was not ready.
func (s *nats) Failed() bool {
	if s.before != nil {
		s.places = cloned(s.before)
	}
	return true
}

func cloned(places map[string]natsPlace) map[string]natsPlace {
	all := make(map[string]natsPlace, len(places))
	for key, at := range places {
		all[key] = at
	}
	return all
}

// Resumable is true where all lines are of JetStream.
func (s *nats) Resumable() bool {
	return s.step == natsReady && len(s.core) == 0 && len(s.consumers) > 0
}

// Save is the place of each line of JetStream's.
func (s *nats) Save() (saved []byte) {
	if s.step != natsReady || len(s.consumers) == 0 {
		return nil
	}
	for _, c := range s.consumers {
		at := s.places[c.key()]
		for _, field := range []string{c.key(), at.created, strconv.FormatUint(at.seq, 10), strconv.FormatUint(at.hole, 10)} {
			saved = translate.AppendField(saved, field)
		}
	}
	if len(saved) > translate.MaxSaved {
		return translate.AppendField(nil, "") // what was saved before does not count any more
	}
	return saved
}

// Restore is Save's other half.
func (s *nats) Restore(saved []byte) error {
	places := map[string]natsPlace{}
	for len(saved) > 1 {
		var fields [4]string
		for i := range fields {
			field, rest, err := translate.CutField(saved)
			if err != nil {
				return err
			}
			fields[i], saved = string(field), rest
		}
		seq, err := strconv.ParseUint(fields[2], 10, 64)
		hole, err2 := strconv.ParseUint(fields[3], 10, 64)
		if err != nil || err2 != nil || fields[0] == "" || len(places) == maxNATSLines {
			return translate.ErrSaved
		}
		places[fields[0]] = natsPlace{fields[1], seq, hole}
	}
	if len(saved) == 1 && (saved[0] != 0 || len(places) > 0) {
		return translate.ErrSaved
	}
	s.places, s.before = places, nil
	return nil
}
