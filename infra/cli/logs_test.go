package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const logged = `{"time":"2026-01-02T03:04:0%d.5Z","level":"%s","msg":"%s","function":"%s",` +
	`"order":7,"correlation_id":"c"}` + "\n"

// writeLogs writes lines to the log of a data directory. Three lines fill a file.
func writeLogs(t *testing.T, dir string, lines ...string) *logFile {
	t.Helper()
	l := &logFile{path: filepath.Join(dir, logDir, logName), max: 400}
	for _, line := range lines {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i, level := range []string{"DEBUG", "INFO", "WARN", "ERROR", "INFO", "WARN", "ERROR"} {
		lines = append(lines, fmt.Sprintf(logged, i, level, fmt.Sprint("m", i), []string{"orders", "views"}[i%2]))
	}
	writeLogs(t, dir, append(lines, `{"time":"2026-01-02T03:04:09Z","level":"ERR`)...)
	for args, want := range map[string]string{
		"":                                       "m0 m1 m2 m3 m4 m5 m6",
		"--level warn":                           "m2 m3 m5 m6",
		"--function views":                       "m1 m3 m5",
		"--limit 2":                              "m5 m6",
		"--limit 1 --function orders":            "m6",
		"--since 2026-01-02T03:04:04Z":           "m4 m5 m6",
		"--level error --function orders -ojson": "m6",
	} {
		code, out, errs := ebb(
			t.Context(),
			dir,
			nil,
			append([]string{"logs", "--data", dir}, strings.Fields(args)...)...)
		var got []string
		between := func(r rune) bool { return strings.ContainsRune(" \n\",", r) }
		for _, word := range strings.FieldsFunc(out.String(), between) {
			if strings.HasPrefix(word, "m") && len(word) == 2 {
				got = append(got, word)
			}
		}
		if code != exitOK || strings.Join(got, " ") != want {
			t.Errorf("%q: got %d, %q, want %q: %s%s", args, code, got, want, out, errs)
		}
	}
	_, out, _ := ebb(t.Context(), dir, nil, "logs", "--data", dir, "--limit", "1")
	if !strings.Contains(out.String(), "m6  order=7") {
		t.Errorf("without its attributes: %s", out)
	}
	if code, _, errs := ebb(t.Context(), dir, nil, "logs", "--data", filepath.Join(dir, "nothing")); code != exitFailed ||
		!strings.Contains(errs.String(), "--data") {
		t.Errorf("nothing there: got %d, %s", code, errs)
	}
}

// A full file is rotated between lines, and the oldest file is dropped.
func TestLogFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 60 {
		lines = append(lines, fmt.Sprintf(logged, i%10, "INFO", fmt.Sprint("line ", i), "f"))
	}
	writeLogs(t, dir, lines...)
	files, err := filepath.Glob(filepath.Join(dir, logDir, "*"))
	if err != nil || len(files) != oldLogs+1 {
		t.Fatalf("got %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || len(data) > 400 || !strings.HasSuffix(string(data), "\n") {
			t.Errorf("%s has %d bytes, %v", file, len(data), err)
		}
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if _, out, _ := ebb(t.Context(), dir, nil, "logs", "--data", dir); !strings.Contains(out.String(), "line 59") {
		t.Errorf("the last line is lost: %s", out)
	}
}

// New lines are shown, also those written just before a rotation.
func TestLogsFollow(t *testing.T) {
	dir := t.TempDir()
	line := func(i int) string { return fmt.Sprintf(logged, i, "INFO", fmt.Sprint("m", i), "f") }
	l := writeLogs(t, dir, line(0))
	ctx, cancel := context.WithCancel(t.Context())
	p, out, errs := process(dir, nil)
	ended := make(chan int)
	go func() { ended <- Run(ctx, empty(), p, []string{"logs", "--data", dir, "--follow"}) }()
	until(t, func() bool { return strings.Contains(out.String(), "m0") })
	for i := 1; i < 6; i++ { // the file is rotated meanwhile
		if _, err := l.Write([]byte(line(i))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return strings.Contains(out.String(), "m5") })
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("got %d, %s", code, errs)
	}
	for i := range 6 {
		if n := strings.Count(out.String(), fmt.Sprintf("m%d ", i)); n != 1 {
			t.Errorf("m%d is shown %d times: %s", i, n, out)
		}
	}
}

// until waits for the effect of another goroutine or process.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}
