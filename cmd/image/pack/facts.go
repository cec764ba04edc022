package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Facts describe the source of an image. They depend on the commit and the files only, so that each build of a commit
// has the same facts.
type Facts struct {
	Name     string // the last part of the module's path, in lower case
	Source   string // the URL of the module, from its path
	Revision string // the commit, with -dirty if files were changed; empty without git
	Version  string // the commit's tag, or else a Go pseudo-version
	License  string // the SPDX expression of the module's LICENSE
	Time     time.Time
}

// ReadFacts reads the facts of the module in dir. epoch, the value of SOURCE_DATE_EPOCH, replaces the commit's time
// unless it is empty.
func ReadFacts(ctx context.Context, dir, epoch string) (Facts, error) {
	module, err := modulePath(dir)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Name: moduleName(module), Source: "https://" + module, Version: "v0.0.0", License: License(dir),
		Time: time.Unix(0, 0).UTC()}
	if err := f.readCommit(ctx, dir); err != nil {
		return Facts{}, err
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return Facts{}, fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
		}
		f.Time = time.Unix(seconds, 0).UTC()
	}
	return f, nil
}

// readCommit adds the facts of the commit. Without git, as in a build context without .git, it adds nothing.
func (f *Facts) readCommit(ctx context.Context, dir string) error {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return nil
	}
	committed, err := git("show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return fmt.Errorf("read the commit's time: %w", err)
	}
	seconds, err := strconv.ParseInt(committed, 10, 64)
	if err != nil {
		return fmt.Errorf("read the commit's time: %w", err)
	}
	f.Revision, f.Time = commit, time.Unix(seconds, 0).UTC()
	// git describe is not used: its abbreviation and its count depend on the other content of the clone.
	f.Version = "v0.0.0-" + f.Time.Format("20060102150405") + "-" + commit[:12]
	// A commit may have tags of modules in its folders too, such as cmd/image/v1.2.3.
	if tag, err := git("describe", "--tags", "--exact-match", "--match", "v[0-9]*", "HEAD"); err == nil {
		f.Version = tag
	}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return fmt.Errorf("list changed files: %w", err)
	}
	if changed != "" {
		f.Revision += "-dirty"
		f.Version += "-dirty"
	}
	return nil
}

// annotations returns the facts under the names of the OCI image specification.
func (f Facts) annotations(title string) map[string]string {
	a := map[string]string{
		"org.opencontainers.image.title":    title,
		"org.opencontainers.image.source":   f.Source,
		"org.opencontainers.image.version":  f.Version,
		"org.opencontainers.image.created":  f.Time.Format(time.RFC3339),
		"org.opencontainers.image.revision": f.Revision,
		"org.opencontainers.image.licenses": f.License,
	}
	for k, v := range a {
		if v == "" {
			delete(a, k)
		}
	}
	return a
}

// majorVersion matches the last part of the path of a module of v2 or later.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// moduleName returns the name of a module, such as helpdesk for example.com/helpdesk/v2.
func moduleName(module string) string {
	if before, last := path.Split(module); majorVersion.MatchString(last) && before != "" {
		module = strings.TrimSuffix(before, "/")
	}
	return strings.ToLower(path.Base(module))
}

func modulePath(dir string) (string, error) {
	mod, err := os.Open(filepath.Join(dir, "go.mod"))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("no go.mod in %s: want the folder of a Go module", dir)
	} else if err != nil {
		return "", err
	}
	defer mod.Close()
	for lines := bufio.NewScanner(mod); lines.Scan(); {
		if path, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", fmt.Errorf("missing module path in %s", mod.Name())
}
