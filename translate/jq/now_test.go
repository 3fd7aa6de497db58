package jq

import (
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

func TestNow(t *testing.T) {
	query, err := gojq.Parse(`now, (now|floor|todate), (now*1000|floor)`)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(query, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	err = p.Run(At(t.Context(), time.UnixMicro(1700000000250000)), nil, nil, func(v any) error {
		got = append(got, v)
		return nil
	})
	if err != nil || len(got) != 3 || got[0] != 1700000000.25 || got[1] != "2023-11-14T22:13:20Z" || got[2] != 1700000000250.0 {
		t.Errorf("%v %v", got, err)
	}
}
