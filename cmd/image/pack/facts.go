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

// Facts are what an image says about where it comes from. They are read from the commit and the files alone, so that
// whoever builds the same commit says the same, wherever and whenever.
type Facts struct {
	Name     string // the last part of the module's path, in lower case
	Source   string // where the module lives, by its path
	Revision string // the commit, with -dirty when the files are not that commit's; empty without git
	Version  string // the tag of the commit, else a pseudo-version of it as Go makes them
	License  string // the SPDX expression of the module's LICENSE
	Time     time.Time
}

// ReadFacts reads them of the module in dir. $SOURCE_DATE_EPOCH, when epoch is not empty, replaces the commit's time.
func ReadFacts(ctx context.Context, dir, epoch string) (Facts, error) {
	module, err := modulePath(dir)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{Name: moduleName(module), Source: "https://" + module, Version: "v0.0.0", License: License(dir), Time: time.Unix(0, 0).UTC()}
	if err := f.readCommit(ctx, dir); err != nil {
		return Facts{}, err
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return Facts{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q: want seconds since 1970", epoch)
		}
		f.Time = time.Unix(seconds, 0).UTC()
	}
	return f, nil
}

// readCommit leaves the facts as they are where there is no git, as in a build context without .git.
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
	// Not git describe: how far it abbreviates, and counts, depends on what the clone holds besides the commit.
	f.Version = "v0.0.0-" + f.Time.Format("20060102150405") + "-" + commit[:12]
	if tag, err := git("describe", "--tags", "--exact-match", "HEAD"); err == nil {
		f.Version = tag
	}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return fmt.Errorf("ask git what was changed: %w", err)
	}
	if changed != "" {
		f.Revision += "-dirty"
		f.Version += "-dirty"
	}
	return nil
}

// annotations are the facts as the OCI image specification names them.
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

// majorVersion is the last part of the path of a module that is past v1.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// moduleName returns what a module is called: helpdesk for example.com/helpdesk/v2.
func moduleName(module string) string {
	if before, last := path.Split(module); majorVersion.MatchString(last) && before != "" {
		module = strings.TrimSuffix(before, "/")
	}
	return strings.ToLower(path.Base(module))
}

func modulePath(dir string) (string, error) {
	mod, err := os.Open(filepath.Join(dir, "go.mod"))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no Go module in %s: run it where go.mod is", dir)
	} else if err != nil {
		return "", err
	}
	defer mod.Close()
	for lines := bufio.NewScanner(mod); lines.Scan(); {
		if path, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", fmt.Errorf("%s names no module", mod.Name())
}
