package cron_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cron"
)

const layout = "2006-01-02 15:04 -0700"

func mustParse(t *testing.T, expression, zone string) cron.Plan {
	t.Helper()
	p, err := cron.Parse(expression, zone)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runs returns the first runs of a plan after a time.
func runs(p cron.Plan, after time.Time, n int) (all []string) {
	for range n {
		if after = p.Next(after); after.IsZero() {
			return append(all, "none")
		}
		all = append(all, after.Format(layout))
	}
	return all
}

// Runs are due by the clocks of the zone, also on days on which those are changed. In Berlin they go from 2:00 to 3:00
// on 2026-03-29 and from 3:00 to 2:00 on 2026-10-25, in New York an hour of 2:00 earlier or later, on Lord Howe Island
// by half an hour, and Samoa had no 2011-12-30.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		name, expression, zone, after string
		want                          []string
	}{
		{"every day", "0 3 * * *", "Europe/Berlin", "2026-03-01 03:00 +0100",
			[]string{"2026-03-02 03:00 +0100", "2026-03-03 03:00 +0100"}},
		{"without a zone", "0 3 * * *", "", "2026-03-01 03:00 +0100",
			[]string{"2026-03-01 03:00 +0000", "2026-03-02 03:00 +0000"}},
		{"a Monday in a zone", "0 9 * * MON", "America/New_York", "2026-03-01 00:00 -0500",
			[]string{"2026-03-02 09:00 -0500", "2026-03-09 09:00 -0400"}},
		{"a day of the month or of the week", "0 0 13 * FRI", "UTC", "2026-03-01 00:00 +0000",
			[]string{"2026-03-06 00:00 +0000", "2026-03-13 00:00 +0000", "2026-03-20 00:00 +0000"}},
		{"the leap day", "0 0 29 2 *", "UTC", "2026-03-01 00:00 +0000", []string{"2028-02-29 00:00 +0000"}},

		{"in the hour that is left out", "30 2 * * *", "Europe/Berlin", "2026-03-28 12:00 +0100",
			[]string{"2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200"}},
		{"several in the hour that is left out", "15,30,45 2 * * *", "Europe/Berlin", "2026-03-28 12:00 +0100",
			[]string{"2026-03-29 03:00 +0200", "2026-03-30 02:15 +0200"}},
		{"in and after the hour that is left out", "0 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00 +0100",
			[]string{"2026-03-29 03:00 +0200", "2026-03-30 02:00 +0200"}},
		{"in the hour that comes twice", "30 2 * * *", "Europe/Berlin", "2026-10-24 12:00 +0200",
			[]string{"2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"}},
		{"after the second of two", "30 2 * * *", "Europe/Berlin", "2026-10-25 02:30 +0100",
			[]string{"2026-10-26 02:30 +0100"}},
		{"between the two", "30 2 * * *", "Europe/Berlin", "2026-10-25 02:45 +0200", []string{"2026-10-26 02:30 +0100"}},

		{"by the hour, over one that is left out", "0 * * * *", "Europe/Berlin", "2026-03-29 00:30 +0100",
			[]string{"2026-03-29 01:00 +0100", "2026-03-29 03:00 +0200", "2026-03-29 04:00 +0200"}},
		{"by the hour, over one that comes twice", "30 * * * *", "Europe/Berlin", "2026-10-25 01:00 +0200",
			[]string{"2026-10-25 01:30 +0200", "2026-10-25 02:30 +0200", "2026-10-25 02:30 +0100", "2026-10-25 03:30 +0100"}},
		{"every half an hour, over an hour that comes twice", "*/30 * * * *", "America/New_York", "2026-11-01 01:20 -0400",
			[]string{"2026-11-01 01:30 -0400", "2026-11-01 01:00 -0500", "2026-11-01 01:30 -0500", "2026-11-01 02:00 -0500"}},
		{"half an hour is left out", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00 +1030",
			[]string{"2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100"}},
		{"a day is left out", "0 9 * * *", "Pacific/Apia", "2011-12-29 12:00 -1000",
			[]string{"2011-12-31 00:00 +1400", "2011-12-31 09:00 +1400"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, err := time.Parse(layout, c.after)
			if err != nil {
				t.Fatal(err)
			}
			if got := runs(mustParse(t, c.expression, c.zone), after, len(c.want)); !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

// A run is after the time that was asked about, and no run lies between the two: stepping from any instant comes to the
// same runs, minute by minute, over both changes of a year.
func TestNextIsConsistent(t *testing.T) {
	for _, expression := range []string{"*/20 * * * *", "30 2 * * *", "0,30 1-3 * * *", "5 */2 * * SUN"} {
		for _, zone := range []string{"Europe/Berlin", "Australia/Lord_Howe", "UTC"} {
			p := mustParse(t, expression, zone)
			for _, day := range []time.Time{
				time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC), time.Date(2026, 4, 4, 11, 0, 0, 0, time.UTC),
				time.Date(2026, 10, 3, 11, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC),
			} {
				next := p.Next(day)
				for at := day; at.Before(day.Add(30 * time.Hour)); at = at.Add(time.Minute) {
					if !at.Before(next) {
						next = p.Next(next)
					}
					if got := p.Next(at); !got.Equal(next) || !got.After(at) {
						t.Fatalf("%s in %s: after %s comes %s, want %s", expression, zone, at, got, next)
					}
				}
			}
		}
	}
}

// A plan that cannot be kept is refused when it is declared.
func TestInvalid(t *testing.T) {
	for _, c := range []struct{ expression, zone, want string }{
		{"0 3 * *", "", "expected exactly 5 fields"},
		{"0 3 * * * *", "", "expected exactly 5 fields"},
		{"60 3 * * *", "", "above maximum"},
		{"@daily", "", "invalid cron expression"},
		{"TZ=Europe/Berlin 0 3 * * *", "", "the time zone is not a part of it"},
		{"0 0 30 2 *", "", "no day has this date"},
		{"0 3 * * *", "Berlin", "invalid time zone"},
		{"0 3 * * *", "Local", "invalid time zone"},
	} {
		if _, err := cron.Parse(c.expression, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in %q: got %v, want %s", c.expression, c.zone, err, c.want)
		}
	}
}

// After any outage the last runs are found, and the others counted, up to a bound.
func TestDue(t *testing.T) {
	p := mustParse(t, "* * * * *", "UTC")
	from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after time.Duration
		limit int
		first time.Duration
		n     int
		left  int
	}{
		{-time.Second, 3, 0, 0, 0},
		{0, 3, 0, 1, 0},
		{2 * time.Minute, 3, 0, 3, 0},
		{10*time.Minute + time.Second, 3, 8 * time.Minute, 3, 8},
		{365 * 24 * time.Hour, 5, 365*24*time.Hour - 4*time.Minute, 5, 10_000},
	} {
		got, left := p.Due(from, from.Add(c.after), c.limit)
		if len(got) != c.n || left != c.left || c.n > 0 && !got[0].Equal(from.Add(c.first)) {
			t.Errorf("after %s: got %v, %d left out", c.after, got, left)
		}
	}
}
