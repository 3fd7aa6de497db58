// This file is the wire protocol between the sidecar and the page's script.
//
// # Words
//
// A page is one life of a document (or worker). It has an id of 16 to 128 characters of [A-Za-z0-9_-], chosen at random
// by the script and never used again; it is a secret. A tunnel is one WebSocket of the page. It has a number from 1 to
// 2147483647, chosen by the script, counting up and never used again on that page.
//
// # Downward: GET /_sidestream/tunnel?page=ID
//
// An event stream like any other: heartbeats, retry hints (1 to 2 s), ids, Last-Event-ID (or ?lastEventId=), stream.busy, cuts that
// look like network failures. The first GET makes the page; a page whose last client has gone lives on for LINGER. The
// script opens one for the page, when it has its first tunnel, and closes it after its last. Events without a name have
// an array as JSON data:
//
//	[0,"page",W,L]                      always the first event of a page; tunnels may be opened from now on. L is LINGER in ms
//	[0,"page",W,L,"SUFFIX"]             the same where there are several replicas: SUFFIX is appended to the page's id in all requests
//	                                    from now on, so that any of them finds the one that has the page. "" is nothing
//	[0,"page",W,L,"SUFFIX",1]           the same where the sidecar takes POSTs whose body goes on, see below
//	[N,"open","protocol"]               tunnel N is open; protocol is what the upstream chose, "" when none was offered
//	[N,"text","..."]                    a text message
//	[N,"binary","..."]                  a binary message, in base64 (RFC 4648, section 4)
//	[N,"close",code,"reason",clean,S]   the last event of tunnel N. clean false: error, then close with 1006. S is the
//	                                    status with which the upstream answered the upgrade, 0 when that was not it
//
//	[N,"ack",K,S]                       all frames of tunnel N up to K that POST S has brought are written to the upstream, K being 0 for none
//	[N,"ack",K,S,1]                     the same, and the sidecar takes no more from POST S
//
// and those with a name are said by the sidecar:
//
//	stream.gap     what was missed cannot be had any more, or the page is another one (after a restart, after LINGER): all
//	               tunnels of the page fail with 1006, and the script begins a new page when it needs one
//	stream.busy    no room, or the sidecar stops: likewise
//
// A GET that is answered with 502, 503 or 504 says nothing about the page: the stream is to be asked for again after a second, as after a
// connection that failed.
//
// A [0,"page"] that comes a second time means the same as stream.gap, and so does a script's own clock when it could not
// get the stream back for L ms. Unknown kinds of events, and further elements of known ones, are to be ignored.
//
// The script acknowledges what it has handled, or the sidecar stops reading from the upstreams: it adds
// data.length + 100 for each event, and when the sum has reached W it POSTs the last event's id as "ack" and begins
// again from 0. An ack may go along with any other POST of any tunnel of the page, or in one of its own, without frames. It
// must not wait for a POST under way: the upstream may take no more until its own messages are read. What is answered to it
// does not matter; it is taken in first.
//
// # Upward: POST /_sidestream/tunnel/PATH?QUERY
//
// PATH?QUERY is the target of the WebSocket's URL without its first slash, byte for byte; it is the same for all POSTs of
// a tunnel. Cookies go along (credentials: "include"). The content type does not matter, and none at all spares the
// preflight of other origins. The body is one line of JSON, its newline, and any number of frames:
//
//	{"page":"ID","tunnel":N,"open":["protocol",...]}       opens tunnel N, offering subprotocols; [] for none; no frames
//	{"page":"ID","tunnel":N,"seq":K,"ack":"EVENT-ID"}      frames K, K+1, ... of tunnel N; "ack" may be left out
//
//	t<length>\n<bytes>      a text message, UTF-8; length is that of the bytes, in decimal
//	b<length>\n<bytes>      a binary message
//	c<length>\n<bytes>      close: nothing (no code), or "code reason" such as "4001 bye", or "1000 ". Nothing may follow
//
// Frames are numbered from 1. The script has one POST with frames of a tunnel in flight at a time and puts what was sent meanwhile
// into the next, up to some 256 KiB (nginx takes 1 MiB by default). When it does not know what became of a POST it repeats
// it with the same numbers, with further frames after them if it likes: a frame that was taken before is not sent again.
// It may send frames once it has seen "open".
//
//	202   to "open": the upstream is being dialled (or was, for a repeated one, even if the tunnel has ended since). What comes of it,
//	      events say. The cookies that its answer sets come along, when it answers within 3 s; the page is known by them too. A browser
//	      has them when a WebSocket is open, so the script repeats this POST until it is answered, and shows no event before
//	204   all frames are written to the upstream
//	400   not this protocol; 403: another origin, see SSE_CORS_ORIGINS. The tunnel fails with 1006
//	404   to "open": no such page for these credentials: begin a new page, and open the tunnel there (once).
//	      Otherwise: the page or the tunnel is gone, or belongs to other credentials, path, query or origin: the tunnel fails
//	      with 1006
//	409   a number was left out: the tunnel fails with 1006
//	410   the tunnel has ended: its "close" event is there, or on its way. Send no more
//	413   a message is over MAX_MESSAGE; "close" with 1009 follows as an event
//	429   too many POSTs of this tunnel at once: repeat it after a second
//	503   to "open": no room, or the sidecar stops: the tunnel fails with 1006. Otherwise: the upstream has taken nothing
//	      for 20 s: repeat it at once, for as long as the page likes
//
// To everything else, 502 and 504 of a proxy between and a failed fetch among it, the answer is to repeat the POST, after
// a second, and to fail with 1006 when that has not helped for 30 s.
//
// A POST is answered when its frames are written, so a script that sends faster than the upstream takes waits, with one
// POST under way. Nothing is queued in the sidecar but the frame being written.
//
// # Upward: a POST whose body goes on
//
// Where the page's first event says so, a tunnel that is open may have one POST whose body goes on for as long as there is something to
// send: to the same target, with the same credentials, and with the same frames, which are taken as they come. Its line has a number S from 1
// to 2147483647, counting up and never used again on that tunnel:
//
//	{"page":"ID","tunnel":N,"seq":K,"stream":S}
//	n<number>\n              between frames: what number the next one has, where that is not the next number
//
// The sidecar says [N,"ack",0,S] when it has the line, and of what it has written at least each 100 ms. A proxy may hold a body until it ends, so
// a script sends nothing by it before it has heard that, and meanwhile by other POSTs. Afterwards it keeps what is not acknowledged, 256 KiB of it at most, and
// repeats it in ordinary POSTs once the request has ended, once an "ack" has the fifth element, or if 2 s pass without an "ack". Frames have
// numbers, so they may reach the sidecar either way, or both ways. What is too large for that, and all that was
// sent without a number being left out, may go by other POSTs at any time. Nothing else changes: while the events are lost, so are the acknowledgements.
//
// A body that is silent is not ended. The sidecar ends it when a frame that has begun does not go on for 30 s, or is not taken by the upstream for 1 s; when
// the tunnel ends, or the sidecar is to stop; and when a later S takes its place. It is answered with 204 when it has ended, or with the reasons above,
// besides 409 to one that has been replaced, or comes too late for that; 429 where a page has more than 8; and 503 where the sidecar is about to stop, where
// the page is another replica's, and where it has not acknowledged its events.
//
// # The end
//
// The script closes with a c frame after all others. The sidecar closes the upstream with that code and reason, waits for
// its answer, 20 s at most as Firefox does, and says "close" with the upstream's code (clean), or 1006 if there was no answer. When the page
// goes away (pagehide), navigator.sendBeacon(url, body) with what was not acknowledged and a c frame "1001 " does the same;
// bodies of over 64 KiB are not sent by browsers, so then only the header with the true "seq" and the c frame can go,
// numbered as if all before it had been sent: a c frame closes even when numbers before it are missing.
//
// A page that has no client for LINGER (without tunnels: for 5 s at most) ends: its upstreams are closed with 1001. So they
// are when the sidecar stops. Both are told to a script that returns as stream.gap, and its POSTs as 404.
//
// # Authorization
//
// GET and POST are refused with 403 across sites as all requests for events are. A page belongs to the client that made it: its id, the
// Cookie and Authorization headers must be the same in all of its requests, and so must Origin where it is sent; with others
// it is not found (404), or made again (GET with another cookie), as if the id had never been seen. Each upstream is dialled with the header of the
// POST that opened its tunnel, as the pass-through would forward it. When the page's cookies change (a login), its tunnels
// fail and the next page has the new ones.

package tunnel
