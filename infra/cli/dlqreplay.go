package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// replayFilter selects the dead letters to replay. All that is set must hold.
type replayFilter struct {
	since, until, cause, code, function, eventType string
	all                                            bool
	watch                                          time.Duration

	from, to time.Time // since and until; zero: without a bound
}

func (f *replayFilter) define(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.since, "since", "", "those that failed `since` then: a time (RFC 3339) or a time ago such as 2h")
	flags.StringVar(&f.until, "until", "", "those that failed `until` then")
	flags.StringVar(&f.cause, "cause", "", "those whose reason contains the `text`")
	flags.StringVar(&f.code, "code", "", "those with one of the `codes`, such as 502,503")
	flags.StringVar(&f.function, "function", "", "those that the function `name` failed to handle")
	flags.StringVar(&f.eventType, "type", "", "those of the event type `name`")
	flags.BoolVar(&f.all, "all", false, "all that wait for a decision")
	flags.DurationVar(&f.watch, "watch", 10*time.Second, "how long each batch is watched for new failures")
}

// some reports whether the filter selects anything.
func (f *replayFilter) some() bool {
	return f.all || f.since+f.until+f.cause+f.code+f.function+f.eventType != ""
}

// parse reads the times.
func (f *replayFilter) parse(now time.Time) error {
	for _, t := range []struct {
		flag, text string
		to         *time.Time
	}{{"since", f.since, &f.from}, {"until", f.until, &f.to}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if ago, ago2 := time.ParseDuration(t.text); err != nil && ago2 == nil && ago >= 0 {
			at, err = now.Add(-ago), nil
		}
		if err != nil {
			return usageErrorf("invalid --%s %q: want a time such as 2026-01-02T15:04:05Z, or 2h for two hours ago",
				t.flag, t.text)
		}
		*t.to = at
	}
	if f.watch < 0 {
		return usageErrorf("--watch must not be negative")
	}
	return nil
}

// matches reports whether a dead letter is selected.
func (f *replayFilter) matches(d *deadLetter, eventType string) bool {
	short := shortType(eventType)
	ofType := f.eventType == eventType || f.eventType == short || strings.HasPrefix(short, f.eventType+".v")
	switch {
	case !f.from.IsZero() && d.At.Before(f.from), !f.to.IsZero() && d.At.After(f.to):
	case !strings.Contains(d.Reason, f.cause):
	case f.code != "" && !slices.Contains(strings.Split(f.code, ","), d.Code):
	case f.function != "" && d.Function != f.function:
	case f.eventType != "" && !ofType:
	default:
		return true
	}
	return false
}

// errEnough ends a list before its end.
var errEnough = errors.New("enough")

// eachWaiting calls do with the dead letters that wait for a decision, the newest first, until do returns false.
func eachWaiting(ctx context.Context, c *client, do func(d *deadLetter) (more bool)) error {
	_, err := c.pages(ctx, deadLettersPath, url.Values{"state": {"waiting"}}, 0,
		func(raw json.RawMessage) error {
			var d deadLetter
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			if !do(&d) {
				return errEnough
			}
			return nil
		})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// batchMost limits how many dead letters are replayed before the next look at new failures.
const batchMost = 1000

// replayAll replays the selected dead letters, those that failed first in front, in batches of 1, 10, 100 and so on. It
// watches for new failures after each batch and stops at the first. What it has replayed then stays replayed.
func (a *app) replayAll(ctx context.Context, c *client, f *replayFilter) error {
	var chosen []deadLetter
	var decoding error
	err := eachWaiting(ctx, c, func(d *deadLetter) bool {
		var e envelope
		if decoding = json.Unmarshal(d.Event, &e); decoding == nil && f.matches(d, e.Type) {
			chosen = append(chosen, *d)
		}
		return decoding == nil
	})
	if err = cmp.Or(err, decoding); err != nil {
		return err
	}
	if len(chosen) == 0 {
		fmt.Fprintln(a.Out, "No dead letters match.")
		return nil
	}
	slices.Reverse(chosen)
	slices.SortStableFunc(chosen, func(x, y deadLetter) int { return x.At.Compare(y.At) })
	times, began := map[string]int{}, chosen[0].At
	for done, size := 0, 1; done < len(chosen); size = min(10*size, batchMost) {
		for _, d := range chosen[done:min(done+size, len(chosen))] {
			path := deadLettersPath + "/" + url.PathEscape(d.ID) + "/replay"
			if err := c.call(ctx, http.MethodPost, path, nil, nil); err != nil {
				return fmt.Errorf("%d of %d were replayed: %w", done, len(chosen), err)
			}
			times[d.ID] = d.Times
			done++
		}
		fmt.Fprintf(a.Out, "%d of %d are on their way again.\n", done, len(chosen))
		failed, err := a.watchReplay(ctx, c, times, began, f.watch)
		if err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("%s failed again in %s: %s %s; %d of %d were replayed, mend the cause and run the command again",
				failed.ID, failed.Function, failed.Code, failed.Reason, done, len(chosen))
		}
	}
	return nil
}

// watchReplay watches for as long as told, and returns the first replayed dead letter that has failed again.
func (a *app) watchReplay(
	ctx context.Context, c *client, times map[string]int, began time.Time, watch time.Duration,
) (failed *deadLetter, err error) {
	for end := time.Now().Add(watch); ; {
		err := eachWaiting(ctx, c, func(d *deadLetter) bool {
			if before, replayed := times[d.ID]; replayed && d.Times > before {
				failed = d
			}
			return failed == nil && !d.At.Before(began)
		})
		rest := time.Until(end)
		if err != nil || failed != nil || rest <= 0 {
			return failed, err
		}
		select {
		case <-time.After(min(rest, time.Second)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
