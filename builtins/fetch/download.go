package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tries         = 4                // attempts at one address that bring nothing, in a row
	redirects     = 10               // redirections that are followed
	stall         = 60 * time.Second // silence that ends an attempt
	progressEvery = 100 * time.Millisecond
)

// download gets one file into part, which may hold the beginning of it.
type download struct {
	client   *http.Client
	offline  bool
	sum      string // SHA-256 that the whole must have, in lower case hexadecimal
	part     string // path; beside it lies part.json, about what is in it
	progress func(done, total int64)
	logf     func(format string, args ...any)
	pause    func(try int) time.Duration
	stall    time.Duration
}

// client is a client that gives up on servers that do not answer. Bodies
// come as they are, never decompressed.
func client() *http.Client {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 15 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true, DisableKeepAlives: true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > redirects {
				return errRedirects
			}
			return nil
		},
	}
}

var errRedirects = fmt.Errorf("it redirects more than %d times", redirects)

// pause is how long to wait before another attempt: from half a second
// on, doubling, with some chance in it so that many machines do not come back at once.
func pause(try int) time.Duration {
	d := 500 * time.Millisecond << min(try, 6)
	return d/2 + rand.N(d)
}

// temporaryError is one that another attempt may not meet.
type temporaryError struct {
	error
	wait time.Duration // that the server asked for, or 0
}

func (e *temporaryError) Unwrap() error { return e.error }

// from gets the file from one address, in as many attempts as make headway.
func (d *download) from(ctx context.Context, u *url.URL) error {
	if u.Scheme == "file" {
		return d.copyFile(ctx, u.Path)
	}
	if d.offline {
		return errors.New("it is not in the store and b9 is offline: build once with network")
	}
	most := d.have()
	for try := 0; ; try++ {
		err := d.attempt(ctx, u)
		var temp *temporaryError
		if err == nil || ctx.Err() != nil || !errors.As(err, &temp) {
			return err
		}
		if n := d.have(); n > most {
			try, most = 0, n
		}
		if try+1 >= tries {
			return fmt.Errorf("%w (tried %d times)", err, try+1)
		}
		pause := max(d.pause(try), temp.wait)
		d.logf("%s: %v: trying again in %s", u.Redacted(), err, pause.Round(100*time.Millisecond))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// have is how many bytes part holds.
func (d *download) have() int64 {
	st, err := os.Stat(d.part)
	if err != nil {
		return 0
	}
	return st.Size()
}

// partInfo is what is known about the bytes in part.
type partInfo struct {
	URL       string // without password
	Validator string // ETag or Last-Modified that the server named them by, "" when it did not
}

func (d *download) info() partInfo {
	var i partInfo
	data, err := os.ReadFile(d.part + ".json")
	if err != nil || json.Unmarshal(data, &i) != nil {
		return partInfo{}
	}
	return i
}

// attempt makes one request for what is missing. A server may send the whole
// instead, or send the rest of something else: the digest tells, and then the
// next attempt begins anew.
func (d *download) attempt(ctx context.Context, u *url.URL) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := d.have()
	resp, err := d.request(ctx, u, start)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		// part may be complete already, or be too long.
		if d.verify(ctx) == nil {
			return nil
		}
		return d.again(errors.New("what was kept of an earlier download is of no use"))
	}
	if resp.StatusCode == http.StatusOK {
		start = 0
		os.Remove(d.part)
	}
	if err := d.note(u, resp.Header); err != nil {
		return err
	}
	sum, err := d.receive(resp, start, cancel)
	if err != nil {
		if cause := context.Cause(ctx); cause == errStalled {
			err = &temporaryError{error: errStalled}
		}
		return err
	}
	if sum == d.sum {
		return os.Remove(d.part + ".json")
	}
	if start > 0 {
		return d.again(errors.New("the rest does not belong to what was kept of an earlier download"))
	}
	return errors.Join(d.wrongSum(sum), os.Remove(d.part))
}

// again throws part away, for another attempt from the beginning.
func (d *download) again(why error) error {
	if err := os.Remove(d.part); err != nil {
		return err
	}
	return &temporaryError{error: why}
}

func (d *download) wrongSum(got string) error {
	return fmt.Errorf("the content has not the SHA-256 %s but another: if it is what you want, write sha256 = %q", d.sum, got)
}

// request asks for the bytes from start on.
func (d *download) request(ctx context.Context, u *url.URL, start int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "b9")
	if start > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", start))
		if i := d.info(); i.Validator != "" && i.URL == u.Redacted() {
			req.Header.Set("If-Range", i.Validator)
		}
	}
	resp, err := d.client.Do(req)
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err // without the address, which the caller names
	}
	switch {
	case errors.Is(err, errRedirects) || isCertificateError(err):
		return nil, err
	case err != nil:
		return nil, &temporaryError{error: err}
	}
	if err := statusError(resp, start); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// statusError judges the status of an answer to a request for the bytes from start on.
func statusError(resp *http.Response, start int64) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusRequestedRangeNotSatisfiable && start > 0:
		return nil
	case code == http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-", start)
		if start == 0 || !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			return fmt.Errorf("the server sent another part than was asked for (%q)", resp.Header.Get("Content-Range"))
		}
		return nil
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return &temporaryError{error: fmt.Errorf("the server answered %s", resp.Status), wait: retryAfter(resp.Header)}
	default:
		return fmt.Errorf("the server answered %s", resp.Status)
	}
}

// retryAfter is the pause that a server asks for, at most half a minute.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(min(n, 30))*time.Second, 30*time.Second)
}

func isCertificateError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "x509: ")
}

// note writes down by what the server names the content, to ask for the rest
// of the same.
func (d *download) note(u *url.URL, h http.Header) error {
	i := partInfo{URL: u.Redacted(), Validator: h.Get("ETag")}
	if i.Validator == "" || strings.HasPrefix(i.Validator, "W/") { // weak ones do not go with ranges (RFC 9110, 13.1.5)
		i.Validator = h.Get("Last-Modified")
	}
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return os.WriteFile(d.part+".json", data, 0o600)
}

var errStalled = errors.New("the server stopped sending")

// receive appends the body to part, whose first start bytes are kept, and
// returns the digest of the whole.
func (d *download) receive(resp *http.Response, start int64, cancel context.CancelCauseFunc) (sum string, err error) {
	f, err := os.OpenFile(d.part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, start)); err != nil || n != start {
		return "", errors.Join(err, fmt.Errorf("%s changed meanwhile", d.part))
	}
	total := int64(0)
	if resp.ContentLength >= 0 {
		total = start + resp.ContentLength
	}
	w := &meter{w: io.MultiWriter(f, h), done: start, total: total, tell: d.progress, timer: time.AfterFunc(d.stall, func() { cancel(errStalled) }), stall: d.stall}
	defer w.timer.Stop()
	_, err = io.CopyBuffer(w, onlyReader{resp.Body}, make([]byte, 128<<10))
	if err == nil {
		return hexSum(h), nil
	}
	if w.failed != nil { // the disk's error, not the network's: leave it the room
		return "", errors.Join(w.failed, os.Remove(d.part))
	}
	return "", &temporaryError{error: fmt.Errorf("the connection broke after %d bytes: %w", w.done, err)}
}

// onlyReader keeps io.CopyBuffer to the buffer it is given.
type onlyReader struct{ io.Reader }

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// meter counts what is written, tells of it now and then, and pushes back the
// time at which silence counts as a failure.
type meter struct {
	w           io.Writer
	done, total int64
	tell        func(done, total int64)
	told        time.Time
	timer       *time.Timer
	stall       time.Duration
	failed      error
}

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	m.timer.Reset(m.stall)
	n, err := m.w.Write(p)
	m.done += int64(n)
	m.failed = err
	if now := time.Now(); now.Sub(m.told) >= progressEvery || m.done == m.total {
		m.told = now
		m.tell(m.done, m.total)
	}
	return n, err
}

// verify checks the digest of part.
func (d *download) verify(ctx context.Context) error {
	f, err := os.Open(d.part)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancelReader{ctx, f}); err != nil {
		return err
	}
	if sum := hexSum(h); sum != d.sum {
		return d.wrongSum(sum)
	}
	return nil
}

// cancelReader ends a long copy when its context is done.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *cancelReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// copyFile takes the file from this machine.
func (d *download) copyFile(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	out, err := os.OpenFile(d.part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.CopyBuffer(io.MultiWriter(out, h), &cancelReader{ctx, in}, make([]byte, 1<<20))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	d.progress(st.Size(), st.Size())
	if sum := hexSum(h); sum != d.sum {
		return errors.Join(d.wrongSum(sum), os.Remove(d.part))
	}
	return nil
}
