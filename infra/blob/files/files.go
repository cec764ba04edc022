// Package files stores blobs as files of a directory, for one machine: `ebb dev`, tests. Signed requests are served by
// the handler that Handler returns.
//
// A blob is durable when Put has returned: its file and the directory are synced. A crash leaves the blob from before
// or the new one, and perhaps a file whose name begins with a dot, which Prune removes.
package files

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config configures a Driver. Dir must be set.
type Config struct {
	Dir string

	// Base is the URL under which Handler is served, such as http://127.0.0.1:8080/blobs; "": nothing can be signed.
	Base   string
	Secret []byte           // signs; none: a random one, so that signed requests end with the process
	Now    func() time.Time // nil: time.Now
}

// Driver stores blobs in a directory. Several processes of a machine may use one directory.
type Driver struct{ cfg Config }

var _ blob.Driver = (*Driver)(nil)

// Open makes the directory unless it exists.
func Open(cfg Config) (*Driver, error) {
	if cfg.Dir == "" {
		return nil, fault.New(fault.Invalid, "a store of blobs in files needs a directory")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the directory of blobs cannot be used: %v", err)
	}
	cfg.Dir = dir
	if len(cfg.Secret) == 0 {
		cfg.Secret = []byte(rand.Text())
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Driver{cfg}, nil
}

// path returns the path of a key, which CheckKey has accepted.
func (d *Driver) path(key string) (string, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", err
	}
	return filepath.Join(d.cfg.Dir, filepath.FromSlash(key)), nil
}

// A file has the media type in its first line, and the data after it.

// Put implements blob.Driver.
func (d *Driver) Put(ctx context.Context, key string, b blob.Blob) error {
	path, err := d.path(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if strings.ContainsAny(b.Type, "\r\n") {
		return fault.New(fault.Invalid, "invalid media type %.50q", b.Type)
	}
	if err := write(path, b); err != nil {
		return fault.Wrap(err, fault.Unavailable, "a blob cannot be written")
	}
	return nil
}

func write(path string, b blob.Blob) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // when it was not renamed
	_, err = f.WriteString(b.Type + "\n")
	if err == nil {
		_, err = f.Write(b.Data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get implements blob.Driver.
func (d *Driver) Get(_ context.Context, key string, limit int64) (blob.Blob, error) {
	path, err := d.path(key)
	if err != nil {
		return blob.Blob{}, err
	}
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blob.Blob{}, blob.NotFound(d.URI(key))
	case err != nil:
		return blob.Blob{}, fault.Wrap(err, fault.Unavailable, "a blob cannot be read")
	}
	mediaType, data, _ := strings.Cut(string(content), "\n")
	if int64(len(data)) > limit {
		return blob.Blob{}, blob.TooLarge(int64(len(data)), limit)
	}
	return blob.Blob{Type: mediaType, Data: []byte(data)}, nil
}

// Delete implements blob.Driver.
func (d *Driver) Delete(ctx context.Context, key string) error {
	path, err := d.path(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.Unavailable, "a blob cannot be deleted")
	}
	return nil
}

// URI implements blob.Driver.
func (d *Driver) URI(key string) string { return "file://" + filepath.ToSlash(d.cfg.Dir) + "/" + key }

// Prune removes the blobs that were stored before a time. Stores of clouds have rules for that.
func (d *Driver) Prune(ctx context.Context, before time.Time) error {
	return filepath.WalkDir(d.cfg.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
			return nil
		}
		if err == nil {
			err = os.Remove(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// Sign implements blob.Driver.
func (d *Driver) Sign(_ context.Context, g blob.Grant) (blob.Signed, error) {
	if d.cfg.Base == "" {
		return blob.Signed{}, fault.New(fault.Unavailable, "this store of blobs has no address for signed requests")
	}
	until := strconv.FormatInt(d.cfg.Now().Add(g.For).Unix(), 10)
	out := blob.Signed{Method: g.Method, Header: http.Header{}}
	size := ""
	if g.Method == http.MethodPut {
		size = strconv.FormatInt(g.Size, 10)
		out.Header.Set("Content-Type", g.Type)
	}
	query := url.Values{"until": {until}, "signature": {d.signature(g.Method, g.Key, until, g.Type, size)}}
	out.URL = strings.TrimSuffix(d.cfg.Base, "/") + "/" + g.Key + "?" + query.Encode()
	return out, nil
}

func (d *Driver) signature(method, key, until, mediaType, size string) string {
	h := hmac.New(sha256.New, d.cfg.Secret)
	fmt.Fprintf(h, "%q %q %q %q %q", method, key, until, mediaType, size)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Handler serves signed requests. The path of a request is the key, so it is mounted with http.StripPrefix.
func (d *Driver) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, mediaType, size := strings.TrimPrefix(r.URL.Path, "/"), "", ""
		if r.Method == http.MethodPut {
			mediaType, size = r.Header.Get("Content-Type"), strconv.FormatInt(r.ContentLength, 10)
		}
		q := r.URL.Query()
		until, err := strconv.ParseInt(q.Get("until"), 10, 64)
		want := d.signature(r.Method, key, q.Get("until"), mediaType, size)
		if err != nil || !hmac.Equal([]byte(want), []byte(q.Get("signature"))) {
			http.Error(w, "the request is not signed like this", http.StatusForbidden)
			return
		}
		if d.cfg.Now().After(time.Unix(until, 0)) {
			http.Error(w, "the signed request has expired", http.StatusForbidden)
			return
		}
		if r.Method == http.MethodPut {
			d.upload(w, r, key)
			return
		}
		b, err := d.Get(r.Context(), key, 1<<40)
		if err != nil {
			respond(w, err)
			return
		}
		w.Header().Set("Content-Type", b.Type)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Disposition", "attachment") // never a page of this origin
		_, _ = w.Write(b.Data)
	})
}

func (d *Driver) upload(w http.ResponseWriter, r *http.Request, key string) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, r.ContentLength))
	if err != nil {
		http.Error(w, "the upload was cut off", http.StatusBadRequest)
		return
	}
	if err := d.Put(r.Context(), key, blob.Blob{Type: r.Header.Get("Content-Type"), Data: data}); err != nil {
		respond(w, err)
	}
}

func respond(w http.ResponseWriter, err error) {
	http.Error(w, fault.Public(err), fault.KindOf(err).HTTPStatus())
}
