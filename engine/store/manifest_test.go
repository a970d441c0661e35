package store

import (
	"bytes"
	"strings"
	"testing"
)

// sampleManifest has an entry of every type.
func sampleManifest() *manifest {
	return &manifest{Full: true, Entries: []entry{
		{Path: ".", Type: typeDir, Mode: 0o755, MTime: -5},
		{Path: "-x", Type: typeFIFO, Mode: 0o600},
		{Path: "a", Type: typeDir, Mode: 0o1777, UID: 1, GID: 4294967295, MTime: 1},
		{Path: "a b", Type: typeFile, Mode: 0o4755, Size: 3, Digest: Digest{7}, Xattrs: []xattr{{"user.a", ""}, {"user.b", "\x00 \n"}}},
		{Path: "a/h\\", Type: typeHardLink, Target: "a b"},
		{Path: "a/l", Type: typeSymlink, Mode: 0o777, Target: "../../etc/passwd"},
		{Path: "c", Type: typeChar, Mode: 0o666, Major: 1, Minor: 3},
		{Path: "s", Type: typeSocket, Mode: 0o666},
		{Path: "\xff\x7f", Type: typeBlock, Mode: 0o660, Major: 7},
	}}
}

func TestManifestRoundTrip(t *testing.T) {
	m := sampleManifest()
	data := m.Encode()
	got, err := decodeManifest(data)
	check(t, err)
	if !bytes.Equal(got.Encode(), data) || got.Size() != 3 || len(got.Entries) != len(m.Entries) {
		t.Errorf("read back as\n%s\nwant\n%s", got.Encode(), data)
	}
	if x := got.Entries[3].Xattrs[1]; x != m.Entries[3].Xattrs[1] {
		t.Errorf("attribute %q", x)
	}
}

func TestManifestRefuses(t *testing.T) {
	root := "b9 tree 1 full\nd 755 0 0 0 .\n"
	file := "f 644 0 0 0 1 " + Digest{1}.String() + " "
	for text, want := range map[string]string{
		"":                          "begins with",
		"b9 tree 2 full\n":          "begins with",
		"b9 tree 1 full\n":          "no root",
		root + "d 755 0 0 0 ..\n":   "not a path below",
		root + "d 755 0 0 0 /etc\n": "not in a directory",
		root + "d 755 0 0 0 a\nd 755 0 0 0 a/..\n":          "not a path below",
		root + "d 755 0 0 0 a\nd 755 0 0 0 a//b\n":          "not in a directory",
		root + "l 777 0 0 0 /etc a\n" + file + "a/passwd\n": "not in a directory",
		root + file + "a/b\n":                               "not in a directory",
		root + "d 755 0 0 0 b\nd 755 0 0 0 a\n":             "out of order",
		root + "d 755 0 0 0 a\nd 755 0 0 0 a\n":             "out of order",
		root + "h a b\n":                                    "no file named before",
		root + "d 0755 0 0 0 a\n":                           "canonical",
		root + "d 755 0 0 0 a":                              "canonical",
		root + "d 755 0 0 0 \\x61\n":                        "canonical",
		root + "d 10000 0 0 0 a\n":                          "out of range",
		root + "d 755 0 0 0 a\\x0\n":                        "bad escape",
		root + "d 755 0 0 0 a\\x00\n":                       "not a path",
		root + "d 755 0 0 0\n":                              "too few",
		root + "d 755 0 0 0 a b\n":                          "too many",
		root + "q 755 0 0 0 a\n":                            "unknown entry type",
		root + "l 777 0 0 0  a\n":                           "needs a text",
		root + "x user.b v\nx user.a v\n":                   "attributes out of order",
		"b9 tree 1 source\nd 755 1 0 0 .\n":                 "more than a source tree",
		root + strings.Replace(file, " 1 b3", " 9223372036854775807 b3", 1) + "a\n" + file + "b\n": "add up",
	} {
		if _, err := decodeManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(sampleManifest().Encode())
	f.Add([]byte("b9 tree 1 source\nd 755 0 0 0 .\nf 644 0 0 0 1 " + Digest{1}.String() + " a\n"))
	f.Add([]byte("b9 tree 1 full\nd 755 0 0 0 .\nl 777 0 0 0 /etc a\nd 755 0 0 0 a/..\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), data) {
			t.Error("not canonical")
		}
		dirs := map[string]bool{}
		for _, e := range m.Entries {
			if e.Path != "." {
				dir, name := ".", e.Path
				if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
					dir, name = e.Path[:i], e.Path[i+1:]
				}
				if !dirs[dir] || name == ".." || name == "." || name == "" || strings.Contains(e.Path, "\x00") {
					t.Errorf("path %q", e.Path)
				}
			}
			dirs[e.Path] = e.Type == typeDir
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	log := Object{File, Digest{9}, 4}
	r := &Record{Key: key("k"), Label: "//a:b", Kind: "x/1", Parts: []Part{{"n", "v"}}, Outputs: []Output{{"/", Object{Tree, Digest{1}, 2}}}, Log: &log}
	data, err := EncodeRecord(r)
	check(f, err)
	f.Add(data)
	f.Add([]byte(recordTag + "\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRecord(data); err == nil {
			if _, err := EncodeRecord(r); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzCaches(f *testing.F) {
	outputs := []Output{{"/", Object{File, Digest{1}, 2}}, {"", Object{Tree, Digest{2}, 0}}}
	f.Add(appendIndex(appendIndex(nil, key("a"), "", outputs), key("b"), "//b", nil))
	f.Add(appendStat(nil, "/etc/passwd", statEntry{digest: Digest{5}, hashed: 1e18}))
	f.Add(withResults("/w\n", nil, map[string]string{`"l"`: resultLine("l", []Object{{File, Digest{1}, 2}})}))
	f.Fuzz(func(t *testing.T, data []byte) {
		at, ok := scanIndex(data)
		for _, off := range at {
			body, _ := indexBody(data[off:])
			k := Digest(body)
			out, whole := decodeOutputs(body)
			if _, labelled := labelOf(body); labelled { // of which the hash is known alone
				continue
			}
			if again := appendIndex(nil, k, "", out); ok && whole && !bytes.Equal(again, data[off:][:len(again)]) {
				t.Error("index entry does not come back")
			}
		}
		entries, _ := parseStats(data, true)
		for path, e := range entries {
			if again, _ := parseStats(appendStat(nil, path, e), true); again[path] != e {
				t.Error("stat entry does not come back")
			}
		}
		if _, lines, err := splitResults(data); err == nil {
			for label, line := range lines {
				_, _ = resultObjects(label, line)
			}
		}
	})
}
