package docs

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pagesWithTests are the pages that say which test holds a claim, and the folder of tests without one.
var pagesWithTests = map[string]string{"asvs.md": "", "security.md": "infra/gateway", "mtls.md": ""}

var (
	namedTests = regexp.MustCompile("((?:`Test[A-Za-z0-9_]+`(?:, | and )?)+)(?: in `([a-z0-9/]+)`)?")
	oneTest    = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	testFunc   = regexp.MustCompile(`^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\)`)
)

// Every test that a page names as the one that holds a claim exists where the page says. In tables the name counts.
func TestNamedTests(t *testing.T) {
	all := testsByFolder(t)
	for page, fallback := range pagesWithTests {
		text, err := os.ReadFile(filepath.Join(checkout, "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for line := range strings.SplitSeq(string(text), "\n") {
			for _, m := range namedTests.FindAllStringSubmatch(line, -1) {
				folder := m[2]
				if folder == "" {
					folder = fallback
				}
				for _, name := range oneTest.FindAllStringSubmatch(m[1], -1) {
					found++
					if folder == "" || !all[folder][name[1]] {
						t.Errorf("docs/%s names %s in %q, which is not there", page, name[1], folder)
					}
				}
			}
		}
		if found == 0 {
			t.Errorf("docs/%s names no test", page)
		}
	}
}

// testsByFolder returns the names of the tests of each folder.
func testsByFolder(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(checkout, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != checkout, d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		folder, err := filepath.Rel(checkout, filepath.Dir(path))
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if m := testFunc.FindStringSubmatch(lines.Text()); m != nil {
				if all[folder] == nil {
					all[folder] = map[string]bool{}
				}
				all[folder][m[1]] = true
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
