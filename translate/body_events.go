package translate

import "sidestream/translate/sse"

// eventRecords reads text/event-stream.
type eventRecords struct{ *sse.Decoder }

// newEventRecords returns records of which one may have max bytes.
func newEventRecords(max int) eventRecords { return eventRecords{sse.NewDecoder(max)} }

func (r eventRecords) Next(p []byte) (out []Message) {
	r.Decode(p, func(e sse.Event) {
		if e.TooLarge {
			out = append(out, Message{Gap: GapUpstream})
			return
		}
		out = append(out, Message{Event: e.Name, ID: e.ID, Data: e.Data})
	})
	return out
}

// End emits nothing: an event without its blank line is none.
func (r eventRecords) End() []Message { return nil }

var _ Records = eventRecords{}

// verbatimRecords reads text/event-stream for who reads events as they were written.
type verbatimRecords struct{ eventRecords }

// End completes what was begun.
func (r verbatimRecords) End() []Message { return r.Next([]byte("\n\n")) }
