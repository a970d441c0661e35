package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/repo/internal/backend"
)

// How the log orders everything:
//
// The log is the file that makes a directory a repository. Writers only append to
// it, a line in one write, and the server keeps the lines of several writers
// apart. The order of the lines decides which version is the newest, which of two
// pushes of the same version was first, and whether a push came before or after a
// collection; no clock does. Nobody waits for a lock: a writer appends its line,
// reads the log again, and sees by the rules of view.publish whether the line
// counts. Every reader applies the same rules to the same lines, so all agree. A
// line has a checksum and begins with a line feed, so half a line, which a writer
// that died has left, is passed over and spoils no other.

const (
	logName = "b9-repository"
	// formatVersion is raised when an older b9 would misread a repository.
	formatVersion = 1
	// maxLine keeps a line within one write of an SFTP server.
	maxLine = 24 << 10
	// The rest bounds the memory for a log: its bytes, a line without an end,
	// and the versions and steps that it publishes, removed ones among them.
	// A push stops spareLines earlier, so that versions can still be removed.
	maxLog     = 64 << 20
	maxTorn    = 1 << 20
	maxImages  = 1 << 16
	maxSteps   = 1 << 18
	spareLines = 1 << 10
)

// Operations of log lines.
const (
	opFormat  = "format"
	opImage   = "image"
	opStep    = "step"
	opRemove  = "remove"
	opCollect = "collect"
)

// line is one line of the log.
type line struct {
	Op string `json:"op"`

	// format: the first line
	Format int    `json:"format,omitempty"`
	ID     string `json:"id,omitempty"` // random, for the state that clients keep

	// image and step
	Image   *Version  `json:"image,omitempty"`
	StepKey string    `json:"step,omitempty"`
	Recipe  recipeRef `json:"manifest,omitzero"`
	Epoch   int       `json:"epoch,omitempty"` // collections the publisher knew of

	// remove: the manifest of the version or step
	Removed fileID `json:"removed,omitzero"`

	// collect: a file in doomed/ that lists what will be deleted
	Doomed fileID `json:"doomed,omitzero"`
}

// recipeRef is a manifest as the log names it.
type recipeRef struct {
	ID     fileID `json:"id"`
	Length int64  `json:"length"` // bytes of the file
}

func (r recipeRef) path() string { return "manifests/" + r.ID.String() }

// encode returns the line as it is appended: a line feed, in case the file
// ends with half a line, 16 hexadecimal digits of the BLAKE3 hash of the
// JSON text, a space, the text, and a line feed.
func (l line) encode() ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	if len(text) > maxLine {
		return nil, fmt.Errorf("description takes %d bytes, more than %d: shorten its file systems, origin or key", len(text), maxLine)
	}
	return slices.Concat([]byte("\n"), checksum(text), []byte(" "), text, []byte("\n")), nil
}

func checksum(text []byte) []byte {
	sum := blake3.Sum256(text)
	return hex.AppendEncode(nil, sum[:8])
}

// decodeLine reads a line without its end. ok is false for one that is torn.
func decodeLine(b []byte) (l line, ok bool) {
	sum, text, found := bytes.Cut(b, []byte(" "))
	if !found || !bytes.Equal(sum, checksum(text)) || json.Unmarshal(text, &l) != nil {
		return line{}, false
	}
	return l, true
}

// view is what the log says, up to a place in it.
type view struct {
	id       string
	offset   int64 // where the next read begins: after a line feed
	epoch    int   // collections so far
	torn     int   // lines that can't be read
	images   []*entry
	counts   map[string]int // publications by operation
	steps    map[string]*entry
	byID     map[fileID]*entry
	versions map[string]*entry // by name@version
	dooms    []fileID          // one for each collection
}

// entry is a valid line that publishes something.
type entry struct {
	Image   *Version // nil for a step
	StepKey string
	Recipe  recipeRef
	order   int // counts publications
	removed bool
}

// who names the entry for people.
func (e *entry) who() string {
	if e.Image != nil {
		return e.Image.Ref()
	}
	return "step " + e.StepKey
}

func newView() *view {
	return &view{counts: map[string]int{}, steps: map[string]*entry{}, byID: map[fileID]*entry{}, versions: map[string]*entry{}}
}

// feed applies the lines that follow in the file. It leaves a line without an end
// for the next call.
func (v *view) feed(b []byte) error {
	for text := range bytes.Lines(b) {
		l, whole := bytes.CutSuffix(text, []byte("\n"))
		if !whole {
			break
		}
		if len(l) > 0 {
			if err := v.line(l); err != nil {
				return err
			}
		}
		v.offset += int64(len(text))
	}
	return nil
}

// line applies one line that is not empty.
func (v *view) line(text []byte) error {
	l, ok := decodeLine(text)
	if !ok {
		v.torn++
		return nil
	}
	if v.id == "" {
		return v.begin(l)
	}
	switch l.Op {
	case opImage, opStep:
		return v.publish(l)
	case opRemove:
		v.remove(l.Removed)
	case opCollect:
		v.epoch++
		v.dooms = append(v.dooms, l.Doomed)
	}
	return nil
}

// begin applies the first line.
func (v *view) begin(l line) error {
	if l.Op != opFormat || l.ID == "" {
		return errors.New("its first line names no format")
	}
	if l.Format != formatVersion {
		return fmt.Errorf("it has format version %d, and this b9 knows only %d: use the b9 that made it, or a newer one", l.Format, formatVersion)
	}
	v.id = l.ID
	return nil
}

// publish applies the line of a version or a step. It counts if its publisher
// knew of all collections before it, and if it is the first for its version or
// step. A line that does not count is never visible.
func (v *view) publish(l line) error {
	if l.Epoch != v.epoch || v.byID[l.Recipe.ID] != nil {
		return nil
	}
	e := &entry{Image: l.Image, StepKey: l.StepKey, Recipe: l.Recipe, order: len(v.byID)}
	switch {
	case l.Op == opImage && e.Image != nil:
		key := e.Image.Ref()
		if ValidName(e.Image.Name) != nil || ValidName(e.Image.Version) != nil || v.versions[key] != nil {
			return nil
		}
		e.StepKey = ""
		e.Image.cleanText()
		v.versions[key] = e
		v.images = append(v.images, e)
	case l.Op == opStep && e.Image == nil && e.StepKey != "" && v.steps[e.StepKey] == nil:
		v.steps[e.StepKey] = e
	default:
		return nil
	}
	v.byID[e.Recipe.ID] = e
	v.counts[l.Op]++
	return v.full(0)
}

// cleanText replaces control characters in the publisher's texts, because a
// terminal would obey them.
func (v *Version) cleanText() {
	for _, text := range []*string{&v.Format, &v.Key, &v.Parent, &v.Origin.User, &v.Origin.Host, &v.Origin.Label, &v.Origin.B9, &v.Origin.Source, &v.Origin.Commit} {
		*text = printable(*text)
	}
	for i := range v.FileSystems {
		v.FileSystems[i] = printable(v.FileSystems[i])
	}
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// full returns an error if the log has no room for so many lines.
func (v *view) full(lines int) error {
	const advice = "publish to a new repository"
	if n := v.counts[opImage] + lines; n > maxImages {
		return fmt.Errorf("it has room for %d versions, removed ones among them: %s", maxImages, advice)
	}
	if n := v.counts[opStep] + lines; n > maxSteps {
		return fmt.Errorf("it has room for %d steps, removed ones among them: %s", maxSteps, advice)
	}
	if v.offset+int64(lines)<<10 > maxLog {
		return fmt.Errorf("it has room for %d bytes: %s", maxLog, advice)
	}
	return nil
}

func (v *view) remove(id fileID) {
	e := v.byID[id]
	if e == nil || e.removed {
		return
	}
	e.removed = true
	if e.Image == nil {
		delete(v.steps, e.StepKey)
		return
	}
	delete(v.versions, e.Image.Ref())
	v.images = slices.DeleteFunc(v.images, func(x *entry) bool { return x == e })
}

// newest returns the versions of a name, or all if it is empty, newest first.
func (v *view) newest(name string) []*entry {
	var found []*entry
	for _, e := range slices.Backward(v.images) {
		if name == "" || e.Image.Name == name {
			found = append(found, e)
		}
	}
	return found
}

// newestSteps returns at most n steps, the one published last first.
func (v *view) newestSteps(n int) []*entry {
	steps := slices.Collect(maps.Values(v.steps))
	slices.SortFunc(steps, func(a, b *entry) int { return b.order - a.order })
	return steps[:min(n, len(steps))]
}

// live returns everything that is there, versions oldest first, then steps newest first.
func (v *view) live() []*entry {
	return append(slices.Clone(v.images), v.newestSteps(len(v.steps))...)
}

// sync reads what was appended to the log since the last time. A repository of the
// forerunner has none.
func (r *Repo) sync(ctx context.Context) error {
	if r.old != nil {
		return ErrReadOnly
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.readLog(ctx)
	if errors.Is(err, errOtherLog) || err != nil && r.copied.tail != nil {
		r.view, r.copied = newView(), &logCopy{path: r.copied.path}
	}
	if errors.Is(err, errOtherLog) {
		err = r.readLog(ctx)
	}
	if err == nil && r.view.id == "" {
		err = errNoFormat
	}
	if err != nil {
		return fmt.Errorf("repository %s: %w", r.loc, err)
	}
	r.copied.keep(r.view.offset)
	r.copied = &logCopy{}
	return nil
}

// readLog reads the rest of the log, and before it the end of the copy, if that
// was not compared yet.
func (r *Repo) readLog(ctx context.Context) error {
	first := 64 << 10
	if r.view.offset == 0 {
		first = 1 << 20
	}
	compared := r.copied.tail == nil
	var rest []byte // of a line that is not complete yet
	return backend.ReadFrom(ctx, r.files, logName, r.view.offset-int64(len(r.copied.tail)), first, maxLog, func(b []byte) (err error) {
		if !compared {
			if b, compared = bytes.CutPrefix(b, r.copied.tail); !compared {
				return errOtherLog
			}
		}
		if r.copied.path != "" {
			r.copied.fresh = append(r.copied.fresh, b)
		}
		begun := r.view.offset
		if len(rest) > 0 {
			b = slices.Concat(rest, b)
		}
		if err = r.view.feed(b); err != nil {
			err = fmt.Errorf("log %s: %w", logName, err)
		}
		if rest = b[r.view.offset-begun:]; err == nil && len(rest) > maxTorn {
			err = fmt.Errorf("log %s: %w: from %d on a line has more than %d bytes", logName, ErrDamaged, r.view.offset, maxTorn)
		}
		return err
	})
}

// withView runs fn on what the log said when it was last read.
func (r *Repo) withView(fn func(*view)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(r.view)
}

// room returns an error if a line publishes something and the log is full.
func (r *Repo) room(l line) (err error) {
	if l.Op == opImage || l.Op == opStep {
		r.withView(func(v *view) { err = v.full(spareLines) })
	}
	if err != nil {
		return fmt.Errorf("the log of %s is full: %w", r.loc, err)
	}
	return nil
}

// appendLog appends lines, as many in one write as fit, and then reads the log,
// which tells which of them count.
func (r *Repo) appendLog(ctx context.Context, lines ...line) error {
	var batch []byte
	for i, l := range lines {
		if err := r.room(l); err != nil {
			return err
		}
		b, err := l.encode()
		if err != nil {
			return err
		}
		batch = append(batch, b...)
		if i+1 < len(lines) && len(batch) < maxLine/8 {
			continue
		}
		if err := r.files.Append(ctx, logName, batch); err != nil {
			return fmt.Errorf("append to the log of %s: %w", r.loc, err)
		}
		batch = batch[:0]
	}
	return r.sync(ctx)
}
