package legacy

import (
	"math"
	"math/rand/v2"
	"time"
)

// quote is the feed's price message.
type quote struct {
	Type   string  `json:"type"` // "price"
	Seq    int     `json:"seq"`  // counts the service's quotes from 1, so that a test sees one that is missing
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
	Change float64 `json:"change"` // against the opening price, in percent
	Time   string  `json:"time"`   // RFC 3339 with milliseconds
}

type stock struct {
	symbol      string
	open, price float64
}

// market is a handful of stocks that walk at random near their opening price.
type market struct {
	stocks []stock
	next   int // whose turn it is
	seq    int
}

func newMarket() market {
	m := market{stocks: []stock{
		{symbol: "ACME", open: 123.45}, {symbol: "GLOBEX", open: 87.20}, {symbol: "HOOLI", open: 342.10},
		{symbol: "INITECH", open: 18.64}, {symbol: "STARK", open: 511.75}, {symbol: "WAYNE", open: 264.30},
	}}
	for i := range m.stocks {
		m.stocks[i].price = m.stocks[i].open
	}
	return m
}

// move changes one stock's price, each in its turn, and returns the quote.
func (m *market) move(now time.Time) quote {
	st := &m.stocks[m.next]
	m.next = (m.next + 1) % len(m.stocks)
	m.seq++
	drift := (st.open - st.price) / st.open * 0.05 // back towards the opening, so that a long demo stays plausible
	st.price = math.Max(0.01, cents(st.price*(1+drift+rand.NormFloat64()*0.003)))
	return m.quote(st, now)
}

func (m *market) quote(st *stock, now time.Time) quote {
	return quote{
		Type: "price", Seq: m.seq, Symbol: st.symbol, Price: st.price,
		Change: cents((st.price/st.open - 1) * 100), Time: stamp(now),
	}
}

func cents(f float64) float64 { return math.Round(f*100) / 100 }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
