// Package admin is the operator's port - health, metrics and status - with the log and the command that asks the port.
//
// # Files
//
//   - admin.go: the port and its status. metrics.go: the metrics.
//   - log.go, lines.go: the log, which never makes its writer wait. check.go: `sidestream healthcheck`. drain.go: `sidestream drain`.
//     reload.go: what has come of reloads.
//
// # Rules
//
//   - Counters are kept by the packages that count, as atomics, and read when they are asked for: nothing is registered or updated on
//     an event's way.
//   - Nothing that it shows holds a secret, and it answers no Host that a page of another site could have.
//   - It answers whatever else is full, slow or stuck.
//
// # How to add to it
//
// What an operator should be told is a line of problems.go, and what to do about an error of the upstream one of fix.go. The dashboard is in page/.
// A metric is a line of the table in metrics.go and a send in Collect; `go test ./proxy/admin -run Readme -update` puts it into README.md.
package admin
