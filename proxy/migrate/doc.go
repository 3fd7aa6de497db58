// Package migrate sees what old clients still do through the pass-through: which paths they use and over what, what they send and are
// sent. It changes nothing of it. A [Watch] stands in the way of the answers and tells its listeners of each WebSocket's messages and each
// poll's answer; what they make of that - what could be a route, whether a stream carries the same, when the last old client was there -
// is theirs.
package migrate
