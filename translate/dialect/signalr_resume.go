// This file is SignalR's stateful reconnect: a connection at the hub that outlives its WebSockets. Source: MessageBuffer and HttpConnection of
// @microsoft/signalr 10.0.11. The rules:
//
//   - It is negotiated with useStatefulReconnect=true, which a hub that has it answers likewise, and the handshake then has version 2.
//   - Both sides number the records of types 1 to 5 that they send, from 1, and keep them until they are acknowledged by 8.
//   - A lost WebSocket is followed by one to the same ?id=. There is no handshake: each side says with 9 with which number it goes on, and sends all
//     that it kept. What the other one has already is dropped there. SUBSCRIBE and HELLO stand.
//   - What came is acknowledged a second after it, or when it is 32 KiB, and never before it is in the ring, or kept where there is a history.
//   - A hub forgets a connection that is closed in an orderly way, or lost for longer than its DisconnectTimeout, and answers 404: then, or when the
//     numbers do not fit, it is a new connection, with a gap.
//   - Where the hub does not acknowledge what we send, up to a bound, the connection ends with its WebSocket. So it does after a message over
//     MAX_MESSAGE, of which the numbers are not known, and the next one does without.

package dialect

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	hubStateful = "useStatefulReconnect"

	hubAckEvery = time.Second
	hubAckBytes = 32 << 10 // of records that were not acknowledged; a hub keeps 100 kB unless it says otherwise

	maxHubUnacked      = 1024      // records of ours that the hub has not acknowledged
	maxHubUnackedBytes = 256 << 10 // of them
	maxHubTries        = 5         // WebSockets that were open and on which the hub did not go on
)

// hubPlace is what is known of a connection at the hub. The zero value is one that ends with its WebSocket.
type hubPlace struct {
	id        string // that its address has; "" there is none that can be gone on with
	elsewhere Dial   // where a redirect has led; without URL it is at FROM
	stands    bool   // it was ready, so that the next WebSocket goes on with it
	awaiting  bool   // the hub has not said yet with what it goes on
	tries     int    // WebSockets since it was ready

	received int64 // number of the last record that came
	coming   int64 // of the next one; not above received when the hub sends again
	due      int   // records since the last acknowledgement
	dueBytes int

	counted      int64   // number of the last record that we have sent
	unacked      []Frame // the last of them, as they were sent
	unackedBytes int
}

// forget lets go of the connection: the next WebSocket begins another one.
func (s *signalr) forget() { s.hubPlace = hubPlace{} }

// forgetAfter forgets after an error: whatever went wrong would again.
func (s *signalr) forgetAfter(err *error) {
	if *err != nil {
		s.forget()
	}
}

// redial is where the connection goes on.
func (s *signalr) redial() (Dial, error) {
	at := s.elsewhere
	if at.URL == "" {
		own, err := s.Options.Dial()
		if err != nil {
			return Dial{}, err
		}
		at = own
	}
	at.Header = at.Header.Clone()
	return withHubID(at, s.id)
}

// reopen goes on with the connection.
func (s *signalr) reopen() (frames []Frame, err error) {
	if s.streams == nil { // another process's
		if err := s.restoreStreams(); err != nil {
			return nil, err
		}
	}
	s.ready, s.awaiting, s.due, s.dueBytes = false, true, 0, 0
	s.tries++
	again := s.unacked
	s.counted -= int64(len(again))
	s.unacked, s.unackedBytes = nil, 0 // Sending counts them again
	frames = []Frame{hubNumber(hubSequence, s.counted+1)}
	if s.packed {
		frames, err = packHub(frames)
	}
	return append(frames, again...), err
}

// hubNumber is a record that says a number.
func hubNumber(kind int, number int64) Frame {
	return hubFrame(fmt.Sprintf(`{"type":%d,"sequenceId":%d}`, kind, number))
}

// sequenced takes what a record means to the numbers, and reports whether it is new, or has none.
func (s *signalr) sequenced(r hubRecord, size int, got *Received) (wanted bool, err error) {
	switch {
	case s.awaiting && r.Type == hubClose:
		return false, errors.New("the hub does not go on with the connection: " + hubCloseText(r))
	case s.awaiting && r.Type != hubSequence:
		return false, nil
	case r.Type == hubSequence:
		return false, s.goesOn(r.SequenceID, got)
	case r.Type == hubAck:
		s.acknowledged(r.SequenceID)
	}
	return s.counts(r.Type, size), nil
}

// goesOn takes with which number the hub does.
func (s *signalr) goesOn(number int64, got *Received) error {
	if number > s.coming || number < 1 {
		return errors.New("the hub goes on with a record after those that have arrived")
	}
	s.coming = number
	if s.awaiting {
		s.awaiting, s.ready, s.tries = false, true, 0
		got.Ready, got.Resumed, got.Continued = true, true, true
	}
	return nil
}

// counts notes that a record of a type has come, and reports whether it is not one that has come before.
func (s *signalr) counts(kind, size int) bool {
	if kind < hubInvocation || kind > hubCancel {
		return true
	}
	number := s.coming
	s.coming++
	s.due, s.dueBytes = s.due+1, s.dueBytes+size
	if number <= s.received {
		return false
	}
	s.received = number
	return true
}

// acknowledgement is of all that came.
func (s *signalr) acknowledgement() Frame {
	s.due, s.dueBytes = 0, 0
	return hubNumber(hubAck, s.received)
}

func (s *signalr) Acks() []Frame {
	if s.due == 0 || !s.ready {
		return nil
	}
	return []Frame{s.acknowledgement()}
}

// acknowledged lets go of what the hub has.
func (s *signalr) acknowledged(number int64) {
	first := s.counted - int64(len(s.unacked)) + 1
	n := min(max(number-first+1, 0), int64(len(s.unacked)))
	for _, f := range s.unacked[:n] {
		s.unackedBytes -= len(f.Data)
	}
	s.unacked = slices.Delete(s.unacked, 0, int(n))
}

// Sending keeps the records that count.
func (s *signalr) Sending(frames []Frame) {
	if s.id == "" {
		return
	}
	for _, f := range frames {
		if kind := hubType(f); kind < hubInvocation || kind > hubCancel {
			continue
		}
		s.counted++
		s.unacked = append(s.unacked, f)
		if s.unackedBytes += len(f.Data); len(s.unacked) > maxHubUnacked || s.unackedBytes > maxHubUnackedBytes {
			s.stands, s.unacked, s.unackedBytes = false, nil, 0 // not all could be sent again
		}
	}
}

// hubType is the type of a record that is sent, 0 when it has none.
func hubType(f Frame) int {
	if f.Binary {
		_, n := binary.Uvarint(f.Data)
		return packedHubType(f.Data[max(n, 0):])
	}
	var r struct{ Type int }
	if json.Unmarshal(f.Data[:max(len(f.Data)-1, 0)], &r) != nil {
		return 0
	}
	return r.Type
}

// packedHubType is the type of a message in MessagePack, with which its list begins; 0 when it has none.
func packedHubType(message []byte) int {
	head := 1
	switch {
	case len(message) == 0:
		return 0
	case message[0] == 0xdc:
		head = 3
	case message[0] == 0xdd:
		head = 5
	}
	if len(message) <= head || message[head] > 0x7f {
		return 0
	}
	return int(message[head])
}

// Skipped ends a connection whose records are numbered.
func (s *signalr) Skipped() error {
	if s.id == "" {
		return nil
	}
	s.plain = true
	s.forget()
	return errors.New("a message over MAX_MESSAGE, of which the numbers are not known; connecting without stateful reconnect")
}

func (s *signalr) Closed(code int, _ string) error {
	if code != 0 && s.awaiting {
		s.forget() // the hub does not go on
	}
	return nil
}

func (s *signalr) Resumable() bool { return s.stands }

// Denied is true where the hub does not know the connection any more, or does not let us go on with it.
func (s *signalr) Denied(status int) bool {
	passing := status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
	if !s.stands || passing || status < 300 || status > 499 {
		return false
	}
	s.forget()
	return true
}

// Failed is true while the connection may still stand: nothing has come on the WebSocket.
func (s *signalr) Failed() bool {
	if s.awaiting && s.tries < maxHubTries {
		return true
	}
	s.forget()
	return false
}
