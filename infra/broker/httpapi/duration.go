package httpapi

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a duration that JSON holds in ISO 8601, such as PT1.5S or P1DT2H. Years and months are refused, because
// they have no fixed length.
type Duration time.Duration

var iso = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d{1,9})?)S)?)?$`)

var units = [...]time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second}

// ParseDuration parses a duration in ISO 8601 of at most about 100 years.
func ParseDuration(s string) (Duration, error) {
	parts := iso.FindStringSubmatch(s)
	if parts == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return 0, fmt.Errorf("invalid duration %q: want ISO 8601, such as PT1.5S", s)
	}
	var total float64
	for i, part := range parts[1:] {
		if part == "" {
			continue
		}
		n, err := strconv.ParseFloat(strings.Replace(part, ",", ".", 1), 64)
		if err != nil {
			return 0, err
		}
		total += n * float64(units[i])
	}
	if total > float64(100*365*24*time.Hour) {
		return 0, fmt.Errorf("duration %q is too long", s)
	}
	return Duration(total), nil
}

// UnmarshalJSON parses a string in ISO 8601.
func (d *Duration) UnmarshalJSON(text []byte) (err error) {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*d, err = ParseDuration(s)
	return err
}

// MarshalJSON writes the duration in seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal("PT" + strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64) + "S")
}
