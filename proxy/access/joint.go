package access

import "time"

// Join returns a pass that lasts as long as all of passes do, and until then unless that is the zero time: whoever has it is to come back once one of them has
// ended, and is asked about by each again. leave is called once, when its client has disconnected. Nil passes are those of routes without AUTH.
func Join(passes []*Pass, until time.Time) (whole *Pass, leave func()) {
	for _, p := range passes {
		if end := p.Until(); !end.IsZero() && (until.IsZero() || end.Before(until)) {
			until = end
		}
	}
	j := &joint{NewPass(until)}
	for _, p := range passes {
		p.Enter()
		p.Watch(j)
		if p.Standing() != Stays {
			j.PassEnded()
		}
	}
	return j.whole, func() {
		for _, p := range passes {
			p.Unwatch(j)
			p.Leave()
		}
	}
}

// joint ends a pass when another one has ended.
type joint struct{ whole *Pass }

// PassEnded is [Watcher]'s.
func (j *joint) PassEnded() { j.whole.End(ComeBack) }
