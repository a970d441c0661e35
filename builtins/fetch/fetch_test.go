package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
)

// content is what the test servers offer, and its digest.
func content() ([]byte, string) {
	data := bytes.Repeat([]byte("all work and no play makes jack a dull boy\n"), 20000)
	sum := sha256.Sum256(data)
	return data, hex.EncodeToString(sum[:])
}

func testDownload(t *testing.T, sum string) *download {
	t.Helper()
	client := client()
	client.Transport.(*http.Transport).Proxy = nil
	return &download{
		client: client, sum: sum, part: filepath.Join(t.TempDir(), "x.part"), progress: func(int64, int64) {},
		logf: t.Logf, pause: func(int) time.Duration { return time.Millisecond }, stall: 2 * time.Second,
	}
}

func checkFetched(t *testing.T, d *download, want []byte) {
	t.Helper()
	got, err := os.ReadFile(d.part)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v; want the %d of the server", len(got), err, len(want))
	}
}

// cutter serves content but breaks the connection after n bytes of every answer.
type cutter struct {
	data  []byte
	n     int
	etag  string
	asked atomic.Int32
	bytes atomic.Int64
	seen  atomic.Value // headers of the last request
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.asked.Add(1)
	c.seen.Store(r.Header.Clone())
	if c.etag != "" {
		w.Header().Set("ETag", c.etag)
	}
	http.ServeContent(&cutWriter{w, c.n, &c.bytes}, r, "", time.Time{}, bytes.NewReader(c.data))
}

type cutWriter struct {
	http.ResponseWriter
	left  int
	count *atomic.Int64
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left])
		w.count.Add(int64(w.left))
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	w.count.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

func TestFetchResumesAfterCuts(t *testing.T) {
	data, sum := content()
	c := &cutter{data: data, n: 200 << 10, etag: `"one"`}
	srv := httptest.NewServer(c)
	defer srv.Close()
	d := testDownload(t, sum)
	if err := d.fetch(context.Background(), []string{srv.URL + "/x"}); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, d, data)
	if got := c.bytes.Load(); got != int64(len(data)) {
		t.Errorf("the server sent %d bytes, want each of the %d once", got, len(data))
	}
	if h := c.seen.Load().(http.Header); h.Get("If-Range") != `"one"` || h.Get("Range") == "" {
		t.Errorf("the last request had Range %q and If-Range %q", h.Get("Range"), h.Get("If-Range"))
	}
	if _, err := os.Stat(d.part + ".json"); !errors.Is(err, os.ErrNotExist) {
		t.Error("what is known about the part was left behind")
	}
}

func TestFetchContinuesNextBuild(t *testing.T) {
	data, sum := content()
	d := testDownload(t, sum)
	if err := os.WriteFile(d.part, data[:500000], 0o600); err != nil {
		t.Fatal(err)
	}
	c := &cutter{data: data, n: len(data)}
	srv := httptest.NewServer(c)
	defer srv.Close()
	if err := d.fetch(context.Background(), []string{srv.URL}); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, d, data)
	if got := c.bytes.Load(); got != int64(len(data)-500000) {
		t.Errorf("the server sent %d bytes, want the %d that were missing", got, len(data)-500000)
	}
}

func TestFetchForeignPart(t *testing.T) {
	data, sum := content()
	for name, part := range map[string][]byte{
		"other content": bytes.Repeat([]byte("x"), 1000),
		"complete":      data,
		"too long":      append(bytes.Clone(data), "more"...),
	} {
		t.Run(name, func(t *testing.T) {
			d := testDownload(t, sum)
			if err := os.WriteFile(d.part, part, 0o600); err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewServer(&cutter{data: data, n: len(data)})
			defer srv.Close()
			if err := d.fetch(context.Background(), []string{srv.URL}); err != nil {
				t.Fatal(err)
			}
			checkFetched(t, d, data)
		})
	}
}

func TestFetchWithoutRanges(t *testing.T) {
	data, sum := content()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data[:1000])
			return
		}
		w.Write(data)
	}))
	defer srv.Close()
	d := testDownload(t, sum)
	if err := d.fetch(context.Background(), []string{srv.URL}); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, d, data)
}

func TestFetchWrongDigest(t *testing.T) {
	data, sum := content()
	srv := httptest.NewServer(&cutter{data: data, n: len(data)})
	defer srv.Close()
	expected := strings.Repeat("0", 64)
	d := testDownload(t, expected)
	err := d.fetch(context.Background(), []string{srv.URL + "/f"})
	want := fmt.Sprintf("%s/f: the content has not the SHA-256 %s but another: if it is what you want, write sha256 = %q", srv.URL, expected, sum)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := os.Stat(d.part); !errors.Is(err, os.ErrNotExist) {
		t.Error("the wrong content was kept")
	}
}

func TestFetchMirrors(t *testing.T) {
	data, sum := content()
	mux := http.NewServeMux()
	mux.Handle("/good", &cutter{data: data, n: len(data)})
	mux.HandleFunc("/wrong", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("spam")) })
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/good", http.StatusMovedPermanently)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, first := range []string{"/absent", "/wrong", "/busy", "/loop", "/moved"} {
		d := testDownload(t, sum)
		if err := d.fetch(context.Background(), []string{srv.URL + first, srv.URL + "/good"}); err != nil {
			t.Errorf("%s: %v", first, err)
			continue
		}
		checkFetched(t, d, data)
	}
	for first, want := range map[string]string{
		"/absent": "/absent: the server answered 404 Not Found",
		"/loop":   "/loop: it redirects more than 10 times",
		"/busy":   "/busy: the server answered 503 Service Unavailable (tried 6 times)",
	} {
		err := testDownload(t, sum).fetch(context.Background(), []string{srv.URL + first})
		if err == nil || err.Error() != srv.URL+want {
			t.Errorf("got  %v\nwant %s", err, srv.URL+want)
		}
	}
}

func TestFetchStalledAndCancelled(t *testing.T) {
	data, sum := content()
	var n atomic.Int32
	mux := http.NewServeMux()
	release := make(chan bool)
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		w.Write(data[:1000])
		w.(http.Flusher).Flush()
		<-release
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(release)
	d := testDownload(t, sum)
	d.stall = 100 * time.Millisecond
	if err := d.fetch(context.Background(), []string{srv.URL + "/stall"}); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, d, data)

	n.Store(0)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d = testDownload(t, sum)
	d.stall = time.Hour
	go func() {
		defer cancel()
		builtinstest.Eventually(t, "the beginning is there", func() bool { return d.have() > 0 })
	}()
	if err := d.fetch(ctx, []string{srv.URL + "/stall"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if d.have() == 0 {
		t.Error("the beginning was not kept")
	}
}

func TestFetchFileAndOffline(t *testing.T) {
	data, sum := content()
	path := filepath.Join(t.TempDir(), "a b")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d := testDownload(t, sum)
	d.offline = true
	if err := os.WriteFile(d.part, append(bytes.Clone(data), "what is left of something longer"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.fetch(context.Background(), []string{"http://127.0.0.1:1/", "file://" + strings.ReplaceAll(path, " ", "%20")}); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, d, data)
	err := d.fetch(context.Background(), []string{"http://me:secret@127.0.0.1:1/x"})
	if err == nil || err.Error() != "http://me:xxxxx@127.0.0.1:1/x: it is not in the store and b9 is offline: build once with network" {
		t.Errorf("got %v", err)
	}
}

func TestFetchMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"ftp://x/y":       `"ftp://x/y": unknown kind of address "ftp" (have http, https, file)`,
		"https:///y":      `"https:///y" names no host: write it as https://host/path`,
		"file:y":          `"file:y" names no file of this machine: write it as file:///path`,
		"http://[::1":     `"http://[::1" is no URL: write it as https://host/path`,
		"file://other/y":  `"file://other/y" names no file of this machine: write it as file:///path`,
		"http://u:p@h/ok": "",
	} {
		_, err := sourceURL(text)
		if got := fmt.Sprint(err); got != want && (want != "" || err != nil) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
