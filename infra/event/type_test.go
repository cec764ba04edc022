package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
)

// The subject of a draft is its partition key, unless Keyed gives another.
func TestDraft(t *testing.T) {
	d := event.ClockCancel.New("timer", event.CancelTimer{TimerID: "timer"})
	if d.Subject != "timer" || d.Key != "timer" || d.Info != event.ClockCancel.Info() {
		t.Errorf("got %+v", d)
	}
	if got := d.Keyed("order"); got.Key != "order" || got.Subject != "timer" || d.Key != "timer" {
		t.Errorf("got %+v, then %+v", d, got)
	}
}

// Data that no consumer would accept is not emitted.
func TestEncodeRefuses(t *testing.T) {
	tests := map[string]struct {
		draft event.Draft
		want  string
	}{
		"missing":    {stockReserve.New("o", reserveStock{OrderID: "o"}), `$.lines must be an array, is null`},
		"empty":      {stockShip.New("o", shipStock{}), `$.order_id must have at least 1`},
		"not UTF-8":  {stockShip.New("o", shipStock{OrderID: "\xff"}), `$.order_id is not valid UTF-8`},
		"deep UTF-8": {userRegistered.New("u", registeredUser{Roles: []string{"\xff"}}), `$.roles[0] is not valid UTF-8`},
		"raw UTF-8": {
			flagChanged.New("f", changedFlag{Flag: "f", Value: json.RawMessage("\"\xff\"")}),
			`$.value is not valid UTF-8`,
		},
		"wrong data": {
			event.Draft{Info: stockShip.Info(), Data: shippedStock{OrderID: "o"}},
			`data is a event_test.shippedStock`,
		},
		"no data": {event.Draft{Info: stockShip.Info()}, `data is a <nil>`},
		"no type": {event.Draft{}, `draft without a type`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if raw, err := tt.draft.Encode(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, %v; want %s", raw, err, tt.want)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	info := orderPlaced.Info()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (event.Draft{Info: info, Data: info.Example()}).Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
