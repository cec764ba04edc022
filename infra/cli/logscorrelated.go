package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// maxCorrelated is how many lines correlatedLogs returns at most, the latest ones.
const maxCorrelated = 200

// correlatedLogs returns a function that reads the lines of correlations from the log of dev. It reads all of the log,
// which is of limited size, and decodes only lines that contain the text of a correlation.
func correlatedLogs(path string) func(context.Context, ...string) ([]telemetry.LogLine, error) {
	return func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error) {
		var wanted [][]byte
		for _, id := range correlations {
			text, err := json.Marshal(id)
			if err != nil {
				return nil, fmt.Errorf("the correlation %q: %w", id, err)
			}
			wanted = append(wanted, text)
		}
		var found []telemetry.LogLine
		for n := oldLogs; n >= 0; n-- {
			err := eachLine(ctx, oldLog(path, n), func(raw []byte) {
				if !slices.ContainsFunc(wanted, func(text []byte) bool { return bytes.Contains(raw, text) }) {
					return
				}
				l, ok := parseLog(raw)
				if !ok || !slices.Contains(correlations, l.Correlation) {
					return
				}
				found = append(found, telemetry.LogLine{
					Time: l.Time, Level: l.Level, Function: l.Function, Message: l.Message,
					Attributes: strings.TrimSpace(l.attributes()),
				})
				if len(found) > 2*maxCorrelated {
					found = slices.Delete(found, 0, len(found)-maxCorrelated)
				}
			})
			if err != nil {
				return nil, err
			}
		}
		return found[max(0, len(found)-maxCorrelated):], nil
	}
}

// eachLine calls take with each complete line of a file; the line is only valid until it returns. A missing file has
// none.
func eachLine(ctx context.Context, path string, take func(line []byte)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for r := bufio.NewReaderSize(f, 1<<16); ; {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // a line of more than 64 KiB is none of the kit's
			line = nil
			_, err = r.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		take(line)
	}
}
