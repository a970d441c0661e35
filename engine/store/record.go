package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/digest"
)

// Record says what the action with a key produced. Texts in it are UTF-8;
// other bytes in Label, Kind and Parts come back as U+FFFD.
type Record struct {
	Key      Digest        `json:"key"` // of the action
	Label    string        `json:"label"`
	Kind     string        `json:"kind"`
	Parts    []Part        `json:"parts"` // what the key was made of, in order
	Outputs  []Output      `json:"outputs"`
	Log      *Object       `json:"log,omitempty"` // what the action wrote, if that was kept
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration"` // nanoseconds in the file

	// Texts are what the key has digests of, whole, by the names of the parts, as far
	// as whoever wrote the record thought them short enough: what changed can be told
	// line by line then.
	Texts map[string]string `json:"texts,omitempty"`
}

// Part is one ingredient of a key.
type Part struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Output is a named object that an action produced.
type Output struct {
	Name   string `json:"name"`
	Object Object `json:"object"`
}

const recordTag = "b9 record 1 "

// EncodeRecord returns the record as bytes for [DecodeRecord]: a line with the
// checksum of the rest, and the rest in JSON.
func EncodeRecord(r *Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	head := recordTag + Digest(blake3.Sum256(body)).Hex() + "\n"
	return append(append([]byte(head), body...), '\n'), nil
}

// parseRecord reads what EncodeRecord wrote, and checks the sum.
func parseRecord(data []byte) (*Record, error) {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	body, whole := bytes.CutSuffix(body, []byte("\n"))
	hex, tagged := bytes.CutPrefix(head, []byte(recordTag))
	if !ok || !whole || !tagged {
		return nil, errors.New("not a record")
	}
	sum, err := digest.ParseHex(string(hex))
	if err != nil {
		return nil, err
	}
	if Digest(blake3.Sum256(body)) != sum {
		return nil, errors.New("checksum does not match")
	}
	r := new(Record)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, err
	}
	for _, o := range r.Outputs {
		if o.Object.Kind != File && o.Object.Kind != Tree || o.Object.Size < 0 {
			return nil, fmt.Errorf("output %q is no object", o.Name)
		}
	}
	return r, nil
}

func (s *Store) recordPath(key Digest) string { return s.shard(recordsDir, key) }

// readRecord returns nil without an error when there is no usable record: a
// damaged one only means that the action runs again and writes it anew.
func (s *Store) readRecord(key Digest) (*Record, error) {
	path := s.recordPath(key)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	r, err := DecodeRecord(key, data)
	if err != nil {
		return nil, nil
	}
	return r, nil
}

// DecodeRecord reads the record with that key, from whatever source: what it
// says is well-formed, and not yet true.
func DecodeRecord(key Digest, data []byte) (*Record, error) {
	r, err := parseRecord(data)
	if err != nil {
		return nil, err
	}
	if r.Key != key {
		return nil, fmt.Errorf("it holds the record of %s", r.Key)
	}
	return r, nil
}

// lookup returns the record of a key. It is nil, without an error, when there
// is none or one of its outputs is missing (collection may have removed it, for
// records outlive their objects) or has the wrong size. Log is nil
// when the log was collected. The outputs are kept from being collected
// until the Store is closed.
func (s *Store) lookup(key Digest) (*Record, error) {
	r, err := s.readRecord(key)
	if r == nil || err != nil {
		return nil, err
	}
	if ok, err := s.present(key, r.Outputs); !ok || err != nil {
		return nil, err
	}
	if r.Log != nil && !s.Has(*r.Log) {
		r.Log = nil
	}
	return r, nil
}

// present marks outputs as used and reports whether they are all there. A
// record without outputs is marked itself.
func (s *Store) present(key Digest, outputs []Output) (bool, error) {
	for _, o := range outputs {
		size, ok, err := s.use(o.Object)
		if err != nil || !ok || o.Object.Kind == File && size != o.Object.Size {
			return false, err
		}
	}
	if len(outputs) > 0 {
		return true, nil
	}
	_, ok, err := s.renew(recordsDir, key)
	return ok, err
}

// Learn writes a record whose outputs are elsewhere, so that keys can be
// computed from it. It counts like one whose outputs were collected.
func (s *Store) Learn(r *Record) (err error) {
	defer s.annotate(&err, s.dir, "learn the record of %s", r.Label)
	return s.writeRecord(r)
}

// Commit writes the record of an action, in place of an older one with the
// same key. Its outputs must have been adopted or imported; their names must
// be different and valid UTF-8. When Commit returns, record and outputs
// survive a power loss.
func (s *Store) Commit(r *Record) (err error) {
	defer s.annotate(&err, s.dir, "commit the record of %s", r.Label)
	if r.Key.IsZero() {
		return errors.New("it has no key")
	}
	if err := s.checkOutputs(r); err != nil {
		return err
	}
	paths := make([]string, 0, len(r.Outputs)+1)
	for _, o := range r.Outputs {
		paths = append(paths, s.pathsOf(o.Object)...)
	}
	if r.Log != nil {
		paths = append(paths, s.objectPath(*r.Log))
	}
	return s.writeRecord(r, paths...)
}

// writeRecord writes the record, and notes it where records are looked for. The
// names of its objects are flushed beside the record's content, before the record
// has its name.
func (s *Store) writeRecord(r *Record, objects ...string) error {
	data, err := EncodeRecord(r)
	if err != nil {
		return err
	}
	if err := s.writeDurably(s.recordPath(r.Key), data, 0o444, objects...); err != nil {
		return err
	}
	s.used.add(r.Key)
	s.index.add(r.Key, r.Label, r.Outputs)
	s.dropPointer(r.Label)
	return nil
}

func (s *Store) checkOutputs(r *Record) error {
	names := map[string]bool{}
	for _, o := range r.Outputs {
		if names[o.Name] || !utf8.ValidString(o.Name) {
			return fmt.Errorf("output name %q is used twice or is not UTF-8", o.Name)
		}
		names[o.Name] = true
		if !s.Has(o.Object) {
			return fmt.Errorf("output %q, %s: %w", o.Name, o.Object, ErrNotInStore)
		}
	}
	if r.Log != nil && !s.Has(*r.Log) {
		return fmt.Errorf("log, %s: %w", *r.Log, ErrNotInStore)
	}
	return nil
}

// Where the newest record of a label is said
//
// The index has it. A b9 before this one wrote a file for each label, a pointer, with the
// key in it, and may still do so in a store that both use. It knows nothing of the index's
// labels, and this b9 removes the pointer of what it commits: so one that is there is newer.

func (s *Store) labelPath(label string) string {
	return s.shard(labelsDir, blake3.Sum256([]byte(label)))
}

// hasPointers reports whether there may be pointers.
func (s *Store) hasPointers() bool {
	list, err := os.ReadDir(filepath.Join(s.dir, labelsDir))
	return len(list) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// dropPointer removes the pointer of a label of which the index has something newer. The
// other b9 may have begun to write pointers after this Store was opened.
func (s *Store) dropPointer(label string) { _ = os.Remove(s.labelPath(label)) }

// Found notes that the record with the key is what a label stands for now, whoever made
// it: Latest returns it.
func (s *Store) Found(label string, key Digest) {
	if s.LatestKey(label) == key {
		return
	}
	outputs, ok := s.Recorded(key)
	if !ok {
		return
	}
	s.index.add(key, label, outputs)
	s.dropPointer(label)
}

// Latest returns the record that the label stands for: the one that was committed or
// found for it last, whether or not its outputs are still there; nil when there is none.
func (s *Store) Latest(label string) (*Record, error) {
	if r, err := s.pointed(label); err != nil || r != nil {
		return r, err
	}
	return s.scanLatest(label)
}

// LatestKey is the key of the record that Latest returns, as far as a glance tells:
// zero when the index does not know. The record may be gone, too.
func (s *Store) LatestKey(label string) Digest {
	if s.pointers() {
		if text, err := os.ReadFile(s.labelPath(label)); err == nil {
			key, _ := ParseDigest(string(text)) // zero for what is none
			return key
		}
	}
	s.loadIndex()
	return s.index.latest(label)
}

// Record is what a step with that key produced, whether or not its outputs are still
// there; nil when there is no usable record.
func (s *Store) Record(key Digest) (*Record, error) { return s.readRecord(key) }

// pointed is the record that the key of the label leads to, nil without one.
func (s *Store) pointed(label string) (*Record, error) {
	key := s.LatestKey(label)
	if key.IsZero() {
		return nil, nil
	}
	return s.readRecord(key)
}

// scanLatest reads every record, when the key is not known or misleads.
func (s *Store) scanLatest(label string) (*Record, error) {
	found, err := s.Newest(func(name string) string {
		if name != label {
			return ""
		}
		return name
	})
	return found[label], err
}

// Newest reads every record and returns the newest of each group: group names the one
// that a label belongs to, "" for none.
func (s *Store) Newest(group func(label string) string) (map[string]*Record, error) {
	newest := map[string]*Record{}
	err := s.eachRecord(func(_ string, _ fs.FileInfo, r *Record, err error) error {
		if err != nil {
			return nil // no record
		}
		if g := group(r.Label); g != "" && (newest[g] == nil || r.Started.After(newest[g].Started)) {
			newest[g] = r
		}
		return nil
	})
	return newest, err
}
