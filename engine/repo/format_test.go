package repo

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// exampleManifest has all that a manifest can have.
func exampleManifest() *manifest {
	id := newFileID([]byte("index"))
	return &manifest{
		record: []byte("record"),
		packs:  []packRef{{id: id, data: 900, index: 60, blocks: 30}, {id: newFileID(nil), data: 5, index: 40, blocks: 2}},
		objects: []content{
			{name: "image", digest: Digest{1, 2}, size: 50*blockSize + 7, runs: []run{{0, 2, 0, 28}, {5, 1, 1, 1}, {6, 3, 0, 0}, {50, 1, 1, 0}}},
			{name: "empty"},
		},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	want := exampleManifest()
	got, err := decodeManifest(want.encode())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if n := want.objects[0].data(); n != 6*blockSize+7 {
		t.Errorf("%d bytes of data", n)
	}
}

// TestManifestBounds breaks one promise of a manifest at a time.
func TestManifestBounds(t *testing.T) {
	for name, spoil := range map[string]func(*manifest){
		"run past its pack":  func(m *manifest) { m.objects[0].runs[0].count = 3 },
		"run past its image": func(m *manifest) { m.objects[0].runs[3].at = 51 },
		"empty run":          func(m *manifest) { m.objects[0].runs[0].count = 0 },
		"negative block":     func(m *manifest) { m.objects[0].runs[0].block = -1 },
		"too large":          func(m *manifest) { m.objects[0].size = maxSize + 1 },
		"pack of too many":   func(m *manifest) { m.packs[0].blocks = packBlocks + 1 },
	} {
		m := exampleManifest()
		spoil(m)
		if _, err := decodeManifest(m.encode()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzManifest(f *testing.F) {
	plain := func(stored []byte) []byte {
		dec := newDecoder(1 << 20)
		defer dec.Close()
		b, err := dec.DecodeAll(bytes.TrimPrefix(stored, []byte(manifestMagic)), nil)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(plain(exampleManifest().encode()))
	f.Add([]byte{0, 0, 0})
	enc := newEncoder(zstd.SpeedFastest)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(enc.EncodeAll(b, []byte(manifestMagic)))
		if err != nil {
			return
		}
		for _, c := range m.objects {
			end := int64(0)
			for _, r := range c.runs {
				if r.at < end || r.at+int64(r.count) > blocksIn(c.size) || r.block < 0 || r.block+r.count > m.packs[r.pack].blocks {
					t.Fatalf("run %+v of %+v is out of bounds", r, c)
				}
				end = r.at + int64(r.count)
			}
		}
		if again, err := decodeManifest(m.encode()); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v is read back as %+v, %v", m, again, err)
		}
	})
}

func TestIndexRoundTrip(t *testing.T) {
	x := &packIndex{ids: make([]blockID, frameBlocks+3)}
	for i := range x.ids {
		x.ids[i][0] = byte(i)
	}
	x.frames = []frameRef{{0, 500, 0, frameBlocks}, {500, 20, frameBlocks, 3}}
	got, err := decodeIndex(x.encode(), packRef{data: 520, blocks: frameBlocks + 3})
	if err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := decodeIndex(x.encode(), packRef{data: 521, blocks: frameBlocks + 3}); err == nil {
		t.Error("an index of another pack is taken")
	}
}

func FuzzIndex(f *testing.F) {
	f.Add((&packIndex{frames: []frameRef{{0, 9, 0, 2}}, ids: make([]blockID, 2)}).encode(), int64(9), 2)
	f.Fuzz(func(t *testing.T, b []byte, data int64, blocks int) {
		x, err := decodeIndex(b, packRef{data: data, blocks: blocks})
		if err != nil {
			return
		}
		var end int64
		for _, f := range x.frames {
			if f.off != end || f.first+f.blocks > len(x.ids) {
				t.Fatalf("frame %+v is out of bounds", f)
			}
			end += f.length
		}
		if end != data || len(x.ids) != blocks {
			t.Fatalf("%d bytes, %d blocks; want %d, %d", end, len(x.ids), data, blocks)
		}
	})
}

// FuzzFrame unpacks what may be no frame, or one of another length.
func FuzzFrame(f *testing.F) {
	block := bytes.Repeat([]byte("block"), blockSize)[:blockSize]
	enc, dec := newEncoder(quick), newDecoder(frameBlocks*blockSize*2)
	for n := range 3 {
		f.Add(enc.EncodeAll(bytes.Repeat(block, n), nil))
	}
	x := &packIndex{ids: []blockID{idOf(block), idOf(block)}}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := x.frame(dec, b, frameRef{length: int64(len(b)), blocks: 2}, nil)
		if err == nil && !bytes.Equal(raw, bytes.Repeat(block, 2)) {
			t.Fatalf("%x is taken for the blocks", raw)
		}
	})
}

func FuzzDoom(f *testing.F) {
	f.Add([]byte(newFileID(nil).String() + "\n"))
	f.Add([]byte("0123\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := parseDoom(b)
		if err != nil {
			return
		}
		var again []byte
		for _, id := range ids {
			again = append(again, id.String()+"\n"...)
		}
		if string(bytes.TrimSuffix(again, []byte("\n"))) != string(bytes.TrimSuffix(b, []byte("\n"))) {
			t.Fatalf("%q is read as %q", b, again)
		}
	})
}

func FuzzLog(f *testing.F) {
	for _, l := range []line{
		{Op: opFormat, Format: 1, ID: "id"},
		{Op: opImage, Image: &Version{Name: "web", Version: "1"}, Recipe: recipeRef{newFileID(nil), 7}},
		{Op: opStep, StepKey: "key"}, {Op: opRemove}, {Op: opCollect},
	} {
		b, err := l.encode()
		if err != nil {
			f.Fatal(err)
		}
		_, text, _ := bytes.Cut(bytes.TrimSpace(b), []byte(" "))
		f.Add(append(text, "\n~half a li\n"...))
	}
	first, err := line{Op: opFormat, Format: formatVersion, ID: "id"}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, texts []byte) {
		all := bytes.Clone(first)
		for text := range bytes.Lines(texts) {
			if torn, ok := bytes.CutPrefix(text, []byte("~")); ok {
				all = append(all, torn...)
				continue
			}
			text = bytes.TrimSuffix(text, []byte("\n"))
			all = append(append(append(append(all, checksum(text)...), ' '), text...), '\n')
		}
		whole, parts := newView(), newView()
		err1 := whole.feed(all)
		err2 := parts.feed(all[:len(first)+(len(all)-len(first))/2])
		if err2 == nil {
			err2 = parts.feed(all[parts.offset:])
		}
		if (err1 == nil) != (err2 == nil) || err1 == nil && !reflect.DeepEqual(whole, parts) {
			t.Fatalf("read at once: %+v, %v; in two parts: %+v, %v", whole, err1, parts, err2)
		}
	})
}

func TestLongLineIsRefused(t *testing.T) {
	if _, err := (line{Op: opImage, Image: &Version{Key: strings.Repeat("k", maxLine)}}).encode(); err == nil {
		t.Error("a line that an SFTP server would write in two parts is taken")
	}
}

func TestLocations(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Location{
		"/srv/images":                 {Path: "/srv/images"},
		"images":                      {Path: wd + "/images"},
		"./a:b":                       {Path: wd + "/a:b"},
		"ssh://host/srv":              {Host: "host", Path: "/srv"},
		"ssh://me@host:2222/srv/x%20": {User: "me", Host: "host", Port: 2222, Path: "/srv/x "},
		"ssh://host/~/images":         {Host: "host", Path: "images"},
		"ssh://[::1]:22/srv":          {Host: "::1", Port: 22, Path: "/srv"},
		"me@host:images":              {User: "me", Host: "host", Path: "images"},
		"[::1]:/srv":                  {Host: "::1", Path: "/srv"},
		"host:/srv":                   {Host: "host", Path: "/srv"},
		"host:~/images":               {Host: "host", Path: "images"},
		"me@ssh:/srv":                 {User: "me", Host: "ssh", Path: "/srv"},
		"ssh://ssh/srv":               {Host: "ssh", Path: "/srv"},
	} {
		got, err := ParseLocation(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
			continue
		}
		if again, err := ParseLocation(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q, which is %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"": "is empty", "http://host/x": "unknown", "ssh://me:secret@host/x": "password", "ssh://host": "no directory",
		"host:": "no directory", "ssh:///x": "no host", "ssh://host:0/x": "1..65535", "-oProxy:x": "no host", "a\nb": "control",
		"ssh:/srv/x": "begins with \"ssh://\"", "ssh:host/x": "begins with", "host:~": "no directory", "ssh://host/~": "another user's", "host:~me/x": "another user's", "ssh://host/~me/x": "another user's",
	} {
		if loc, err := ParseLocation(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v; want an error with %q", text, loc, err, want)
		}
	}
}

// FuzzLocation reads locations. One that is accepted names a place, and is read
// the same again from what String writes.
func FuzzLocation(f *testing.F) {
	for _, text := range []string{
		"/srv/images", "web:images", "joe@[::1]:/srv", "ssh://joe@web.example:2222/srv/b9", "ssh://web/~/b9",
		"ssh://joe:secret@web/srv", "ftp://web/srv", "web:~joe/x", "ssh://[fe80::1%25eth0]/srv", "-oProxyCommand=x:/y",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		loc, err := parseLocation(text)
		if err != nil {
			return
		}
		if loc.Path == "" || strings.HasPrefix(loc.Host, "-") {
			t.Fatalf("%q is %+v", text, loc)
		}
		if again, err := parseLocation(loc.String()); err != nil || again != loc {
			t.Fatalf("%q is %+v, and its String %q is %+v, %v", text, loc, loc.String(), again, err)
		}
	})
}
