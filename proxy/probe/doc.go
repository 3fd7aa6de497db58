// Package probe is the sidecar's side of `sidestream doctor` and of the page /_sidestream/doctor: streams, answers and a WebSocket that it
// makes of nothing, so that whoever is at the other end can tell what stands between. Its rules:
//
//   - It is on a public port, and open to everybody. So it is bounded: in requests a second, in requests at once, for all and for one
//     address, and each in bytes and time.
//   - No upstream is asked, no stream joined, nothing is kept of a request.
//   - What it tells of a request is the asker's own: the values of a few headers that are no secrets, cookies by name and length,
//     Authorization by whether it is there. Addresses and host names that proxies have added are told by their kind.
//   - No page of another origin can read an answer. One is refused where browsers say so (Sec-Fetch-Site: not over plain HTTP). Origin is not
//     compared with Host, which what is between may have changed: that is to be found out here.
//
// Words is what it says, for both sides of the wire.
package probe
