package h2

import (
	"net/http"
	"reflect"
)

// StreamID is the number of the stream that w answers, for [Conn.Adopt]. net/http does not tell it, so it is read where it
// is; 0 if that is elsewhere, and then nothing can be adopted.
func StreamID(w http.ResponseWriter) uint32 {
	v := reflect.ValueOf(w)
	for _, name := range []string{"rws", "stream", "id"} {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return 0
		}
		v = v.FieldByName(name)
	}
	if v.Kind() != reflect.Uint32 {
		return 0
	}
	return uint32(v.Uint())
}
