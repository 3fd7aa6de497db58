// Package learn makes a configuration of what old clients do: of the WebSockets and polls that were seen it concludes which routes could take
// their place, and writes these as an env file.
//
// It has one core and two inputs. A [Learner] listens to what passes through a sidecar; [ReadHAR] reads what a browser has recorded. Both yield
// an [Observation], and [Conclude] makes a [Report] of it: a pure function, which asks neither network nor clock.
//
//	observed.go                what was seen, and what of it is kept
//	learner.go, hearing.go     seeing it live, within bounds
//	har.go                     reading it from a file
//	conclude.go, paths.go      from conversations to routes: which belong together
//	spoken.go                  the dialect of a conversation
//	raw.go, hello.go, keepalive.go, events.go, tells.go, records.go, tickets.go
//	                           a route that speaks none: its opening, replies and pings, what tells its messages apart
//	circles.go, dialects.go, dialect_*.go
//	                           a route that speaks one: what is connected with, subscribed to and said
//	polls.go, bodies.go        which requests are polls, and how their answers change
//	explain.go, secret.go      where a value comes from, and what must not be shown
//	report.go, finish.go, write.go, command.go
//	                           names, the env file, the table, the command
//	probe.go                   asking the service which cookies matter
//
// Rules:
//
//   - What is secret stays in memory. No value of a cookie or of Authorization, and nothing that looks like a token, is part of a Report: where such a
//     value is needed, a placeholder stands in its place.
//   - Everything comes from clients and services that are not to be trusted: it is bounded when it is kept, and what is written is quoted.
//   - A conclusion is drawn from what was seen alone. What cannot be concluded is said in a note, for people.
package learn
