package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"
)

// maxPayload limits what is read from standard input, in bytes.
const maxPayload = 64 << 20

// payload returns the JSON that --data names: itself, @FILE, or - for standard input.
func (a *app) payload(data string) (json.RawMessage, error) {
	var raw []byte
	var err error
	switch file, isFile := strings.CutPrefix(data, "@"); {
	case data == "-":
		raw, err = io.ReadAll(io.LimitReader(a.In, maxPayload))
	case isFile:
		raw, err = os.ReadFile(file)
	default:
		raw = []byte(data)
	}
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, usageErrorf("invalid --data: want JSON: %v", err)
	}
	return raw, nil
}
