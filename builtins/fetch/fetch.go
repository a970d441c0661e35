package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/unpack"
	"b9.build/b9/engine/store"
)

// Fetch is the operation fetch().
func Fetch() lang.Operation {
	return lang.Operation{
		Name: "fetch",
		Doc: `a file from the network, known by its SHA-256

The digest is the file's identity: another address for the same content fetches
nothing. Addresses are tried in order: url, then mirrors. Interrupted downloads
go on where they stopped, also in the next build; errors that may pass are tried
six times, with longer and longer pauses. Nothing is fetched while the build file is evaluated. http, https and file
addresses are understood; http_proxy, https_proxy and no_proxy are obeyed.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "url", Type: lang.String, Required: true, Doc: "where the file is"},
			{Name: "sha256", Type: lang.String, Required: true, Doc: "SHA-256 of its content, 64 hexadecimal digits as sha256sum prints them"},
			{Name: "mirrors", Type: lang.ListOf(lang.String), Doc: "further addresses of the same file, tried in order"},
			{Name: "unpack", Type: lang.Bool, Doc: "unpack a file whose name ends in .xz, .gz, .zst, .bz2 or .zip; sha256 is that of the packed one. A tar comes out as a tar"},
			{Name: "member", Type: lang.String, Doc: "the one file to take out of a tar or zip archive, compressed or not"},
			{Name: "executable", Type: lang.Bool, Doc: "give the file mode 0755 where it is placed"},
		},
		Example: `fetch(name = "cloud.qcow2", url = "https://cloud.example/debian-12.qcow2", sha256 = "` + strings.Repeat("0123abcd", 8) + `")`,
		Make:    makeStep,
	}
}

var sumPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-f]{64}$`)
})

func makeStep(c *lang.Call) (lang.Step, error) {
	f := &remoteFile{SHA256: strings.ToLower(c.String("sha256")), Member: c.String("member")}
	f.Unpack = c.Bool("unpack") || f.Member != ""
	if !sumPattern().MatchString(f.SHA256) {
		c.Errorf("sha256: %q is no SHA-256: write 64 hexadecimal digits, as sha256sum prints them", c.String("sha256"))
	}
	ext := ""
	for i, text := range append([]string{c.String("url")}, c.Strings("mirrors")...) {
		u, err := sourceURL(text)
		if err != nil {
			c.Errorf("%w", err)
			continue
		}
		if i == 0 {
			ext = f.ending(path.Base(u.Path))
		}
		f.URLs = append(f.URLs, text)
	}
	step := lang.Step{Action: f, Outputs: lang.OneFile(ext)}
	if c.Bool("executable") {
		step.Outputs[0].Mode = 0o755
	}
	return step, nil
}

// ending is that of the name of what comes out, for an address that ends in name. Of
// what stays packed it says what is in it, too.
func (f *remoteFile) ending(name string) string {
	inner, packed := unpack.Ending(name)
	switch {
	case f.Member != "":
		return strings.TrimPrefix(path.Ext(f.Member), ".")
	case f.Unpack && packed:
		return strings.TrimPrefix(path.Ext(inner), ".")
	case packed && (path.Ext(inner) == ".tar" || isImage(path.Ext(inner))) && strings.HasSuffix(name, path.Ext(inner)+path.Ext(name)):
		return strings.TrimPrefix(path.Ext(inner)+path.Ext(name), ".")
	}
	return strings.TrimPrefix(path.Ext(name), ".")
}

// isImage reports whether files with that ending are images of disks, which image()
// unpacks.
func isImage(ext string) bool {
	return slices.Contains([]string{".img", ".iso", ".raw", ".qcow2", ".vmdk", ".vdi", ".vhd", ".vhdx"}, ext)
}

// sourceURL checks an address.
func sourceURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "":
		return nil, fmt.Errorf("%q is no URL: write it as https://host/path", text)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file":
		return nil, fmt.Errorf("%q: unknown kind of address %q (have http, https, file)", u.Redacted(), u.Scheme)
	case u.Scheme != "file" && u.Host == "":
		return nil, fmt.Errorf("%q names no host: write it as https://host/path", text)
	case u.Scheme == "file" && (u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path)):
		return nil, fmt.Errorf("%q names no file of this machine: write it as file:///path", text)
	}
	return u, nil
}

// remoteFile gets a file whose content is known by its digest. Where it comes
// from can't change it, so the addresses are no part of the key.
type remoteFile struct {
	SHA256 string   // lower case hexadecimal
	URLs   []string `key:"-"` // in the order to try
	Unpack bool     // what comes out is what is packed in it
	Member string   // which file of an archive that is
}

// Kind implements engine.Action.
func (f *remoteFile) Kind() string { return "fetch/2" }

// partAge is how long an interrupted download is kept.
const partAge = 14 * 24 * time.Hour

// Run implements engine.Action.
func (f *remoteFile) Run(ctx context.Context, job *engine.Job) error {
	dir := filepath.Join(job.World().Store.Dir(), "cache", "fetch")
	if err := store.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	dropParts(dir, time.Now().Add(-partAge))
	d := &download{
		client: client(), offline: job.World().Offline, sum: f.SHA256, part: filepath.Join(dir, f.partName()),
		progress: job.Progress, logf: job.Logf, pause: pause, stall: stall,
	}
	if err := d.fetch(ctx, f.URLs); err != nil {
		return err
	}
	if !f.Unpack {
		return os.Rename(d.part, job.Output(""))
	}
	w, err := os.OpenFile(job.Output(""), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(unpack.File(ctx, d.part, w, f.Member), w.Close()); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return os.Remove(d.part)
}

// partName is the name of what was downloaded so far. Steps with different keys may run
// at once, so each has one of its own.
func (f *remoteFile) partName() string {
	if !f.Unpack {
		return f.SHA256 + ".part"
	}
	return fmt.Sprintf("%s-%x.part", f.SHA256, sha256.Sum256([]byte(f.Member)))
}

// dropParts removes downloads that were interrupted long ago. What can't be
// removed does no harm.
func dropParts(dir string, before time.Time) {
	names, _ := filepath.Glob(filepath.Join(dir, "*.part*"))
	for _, name := range names {
		if st, err := os.Lstat(name); err == nil && st.ModTime().Before(before) {
			os.Remove(name)
		}
	}
}

// fetch tries the addresses in order until one gives the content.
func (d *download) fetch(ctx context.Context, urls []string) error {
	var errs []error
	for _, text := range urls {
		u, err := sourceURL(text)
		if err != nil {
			return err
		}
		err = d.from(ctx, u)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d.logf("%s: %v", u.Redacted(), err)
		errs = append(errs, fmt.Errorf("%s: %w", u.Redacted(), err))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.New("none of the addresses gave the file: " + strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "; "))
}

// Actions is the table of the actions of this package by their kinds, of which
// a type may have several.
func Actions() engine.Actions {
	return engine.Actions{
		"fetch/2": func() engine.Action { return &remoteFile{} },
	}
}
