package sse_test

import (
	"fmt"
	"os"
	"time"

	"sidestream/translate/sse"
)

// What a client is sent: how soon to come back, an event, a heartbeat, and a gap.
func Example() {
	var out []byte
	out = sse.AppendRetry(out, 3*time.Second)
	out = sse.AppendEvent(out, "jx2q-1", "price", []byte("{\"symbol\":\"ACME\",\n\"price\":101.25}"))
	out = append(out, sse.Heartbeat...)
	out = sse.AppendGap(out, "jx2q-9", "evicted", 7)
	os.Stdout.Write(out)
	// Output:
	// retry: 3000
	// event: price
	// data: {"symbol":"ACME",
	// data: "price":101.25}
	// id: jx2q-1
	//
	// :
	// event: stream.gap
	// data: {"reason":"evicted","missed":7}
	// id: jx2q-9
}

// Nothing that comes from upstream leaves its field, or takes a name that is Sidestream's own.
func ExampleAppendEvent() {
	os.Stdout.Write(sse.AppendEvent(nil, "jx2q-2", "stream.gap\ndata: forged", []byte("a\r\nid: 7")))
	// Output:
	// event: _stream.gapdata: forged
	// data: a
	// data: id: 7
	// id: jx2q-2
}

// A stream arrives in pieces, cut anywhere; each event comes out once it is complete.
func ExampleDecoder() {
	d := sse.NewDecoder(1 << 10)
	for _, piece := range []string{"retry: 500\nid: 7\nev", "ent: price\ndata: 101\ndata: 102\n", "\n: a comment\n\ndata: no blank line yet\n"} {
		d.Decode([]byte(piece), func(e sse.Event) {
			fmt.Printf("%s %q, id %s\n", e.Name, e.Data, e.ID)
		})
	}
	fmt.Println("last id", d.LastID(), "retry", d.Retry())
	// Output:
	// price "101\n102", id 7
	// last id 7 retry 500ms
}
