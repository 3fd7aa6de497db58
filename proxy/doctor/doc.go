// Package doctor is the command doctor: it asks a sidecar's probe (package probe) through all that stands between, from where a client is, and
// says what it has found out about that. Its rules:
//
//   - It needs no configuration, and believes nothing but what it has seen: a check that could not be made is a note.
//   - What it sends is its own: no credentials, no cookie of anybody.
//   - A finding has what was seen, what that means and, for the products that were recognised on the way, the lines to write.
//   - Times of the sidecar are compared with this machine's by the difference of their clocks, which is measured first.
//   - Each stream has a connection of its own: what one of them is told by its silence, the events of another one would hide.
//
// README.md beside this file tells how to use it.
package doctor
