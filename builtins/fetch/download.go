package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/store"
)

const (
	tries         = 6                // attempts at one address that bring nothing, in a row
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
	useless := "the rest does not belong to what was kept of an earlier download"
	switch resp.StatusCode {
	case http.StatusOK:
		start = 0
	case http.StatusRequestedRangeNotSatisfiable: // part may be complete already, or be too long
		useless = "what was kept of an earlier download is of no use"
		resp.Body, resp.ContentLength = http.NoBody, 0
	}
	if err := d.note(u, resp.Header); err != nil {
		return err
	}
	sum, err := d.receive(ctx, resp, start, func() { cancel(errStalled) })
	switch {
	case err != nil && context.Cause(ctx) == errStalled:
		return &temporaryError{error: errStalled}
	case err != nil:
		return err
	case sum == d.sum:
		return os.Remove(d.part + ".json")
	case start > 0:
		return d.again(errors.New(useless))
	}
	return d.wrongSum(sum)
}

// again throws part away, for another attempt from the beginning.
func (d *download) again(why error) error {
	if err := os.Remove(d.part); err != nil {
		return err
	}
	return &temporaryError{error: why}
}

// wrongSum throws part away, which has another digest.
func (d *download) wrongSum(got string) error {
	return errors.Join(
		fmt.Errorf("the content has not the SHA-256 %s but another: if it is what you want, write sha256 = %q", d.sum, got),
		os.Remove(d.part),
	)
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
	case err != nil && (errors.Is(err, errRedirects) || strings.Contains(err.Error(), "x509: ")):
		return nil, err // the same comes again
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
	n, _ := strconv.ParseUint(h.Get("Retry-After"), 10, 16) // 0 if it is no number, the most if it is too large
	return time.Duration(min(n, 30)) * time.Second
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
	f, err := store.OpenFile(d.part+".json", os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

var errStalled = errors.New("the server stopped sending")

// receive appends the body to part, whose first start bytes are kept, and
// returns the digest of the whole. It calls stalled when the server falls silent.
func (d *download) receive(ctx context.Context, resp *http.Response, start int64, stalled func()) (sum string, err error) {
	b := &body{from: resp.Body, done: start, tell: d.progress, stall: d.stall, stalled: stalled}
	if resp.ContentLength >= 0 {
		b.total = start + resp.ContentLength
	}
	sum, err = d.write(ctx, b, start)
	switch {
	case b.broken != nil:
		return "", &temporaryError{error: fmt.Errorf("the connection broke after %d bytes: %w", b.done, b.broken)}
	case err != nil && ctx.Err() == nil: // the disk's error, not the network's: leave it the room
		err = errors.Join(err, os.Remove(d.part))
	}
	return sum, err
}

// body reads what a server sends, counts it, tells of it now and then, and
// notices when nothing comes.
type body struct {
	from        io.Reader
	done, total int64
	tell        func(done, total int64)
	told        time.Time
	stall       time.Duration // silence after which stalled is called
	stalled     func()
	broken      error // why there is no more, unless that is the end
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	silence := time.AfterFunc(b.stall, b.stalled)
	n, err := b.from.Read(p)
	silence.Stop()
	b.done += int64(n)
	if err != io.EOF {
		b.broken = err
	}
	if now := time.Now(); now.Sub(b.told) >= progressEvery || b.done == b.total {
		b.told = now
		b.tell(b.done, b.total)
	}
	return n, err
}

// write appends to part, whose first start bytes are kept, and returns the
// digest of the whole.
func (d *download) write(ctx context.Context, from io.Reader, start int64) (sum string, err error) {
	f, err := store.OpenFile(d.part, unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	defer context.AfterFunc(ctx, func() { f.Close() })() // which ends a long copy
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, start)); err != nil || n != start {
		return "", errors.Join(err, fmt.Errorf("%s changed meanwhile", d.part))
	}
	if err := f.Truncate(start); err != nil {
		return "", err
	}
	_, err = io.CopyBuffer(io.MultiWriter(f, h), from, make([]byte, 128<<10))
	return hex.EncodeToString(h.Sum(nil)), err
}

// copyFile takes the file from this machine.
func (d *download) copyFile(ctx context.Context, path string) error {
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
	sum, err := d.write(ctx, in, 0)
	if err != nil {
		return err
	}
	d.progress(st.Size(), st.Size())
	if sum != d.sum {
		return d.wrongSum(sum)
	}
	return nil
}
