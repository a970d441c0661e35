package secret

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/seedtest"
)

func TestRead(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	put := func(name, text string) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("B9_TEST_TOKEN", "hunter")
	t.Setenv("B9_TEST_EMPTY", "")
	t.Setenv("B9_TEST_SHORT", "hunt\n\n\n")
	for _, c := range []struct {
		origin Origin
		want   string
		wrong  string
	}{
		{Origin{Env: "B9_TEST_TOKEN"}, "hunter", ""},
		{Origin{File: put("token", "hunter2\r\n")}, "hunter2\r\n", ""},
		{Origin{File: "~/token"}, "hunter2\r\n", ""},
		{Origin{File: put("most", "ab"+strings.Repeat("x", mostValue-2)+"\r\n")}, "", ""},
		{Origin{Env: "B9_TEST_NONE"}, "", "environment variable B9_TEST_NONE is not set"},
		{Origin{Env: "B9_TEST_EMPTY"}, "", "is empty"},
		{Origin{Env: "B9_TEST_SHORT"}, "", "fewer than 6 bytes"},
		{Origin{File: put("zeros", strings.Repeat("\x00", 20))}, "", "one byte over and over"},
		{Origin{File: put("long", strings.Repeat("ab", mostValue))}, "", "more than 65536 bytes"},
		{Origin{File: filepath.Join(home, "none")}, "", "no such file"},
		{Origin{File: home}, "", "not a regular file"},
	} {
		got, err := c.origin.Read()
		if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error %v, want %q", c.origin, err, c.wrong)
		}
		if c.want != "" && string(got) != c.want {
			t.Errorf("%s: got %q, want %q", c.origin, got, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunt") {
			t.Errorf("the error tells the value: %v", err)
		}
	}
}

// The values of the tests: short, as tokens are, with characters that encodings
// escape, binary, and of several lines.
func values() []Text {
	pem := "-----BEGIN KEY-----\n"
	for i := range 20 {
		pem += fmt.Sprintf("%064x\n", i*i*7919)
	}
	return []Text{
		{"short", []byte("s3cr3t")}, {"token", []byte("ghp_AbCdEf0123456789\n")}, {"odd", []byte(`it's "50%" & a\b/c+d`)},
		{"binary", []byte("\x00\x01\xfe\xff\n\x80zz\x00")}, {"pem", []byte(pem + "-----END KEY-----\n")},
	}
}

// forms are texts that show a value.
func shownAs(value []byte) map[string][]byte {
	trim := trimmed(value)
	forms := map[string][]byte{
		"": value, "trimmed": trim, "hex": fmt.Appendf(nil, "%x", value), "HEX": fmt.Appendf(nil, "%X", trim),
		"quoted": bytes.ReplaceAll(trim, []byte("'"), []byte(`'\''`)), "json": jsonText(trim, false),
	}
	for lead := range 5 {
		for tail := range 4 {
			whole := slicesOf([]byte("user:")[:lead], trim, []byte(";end")[:tail])
			forms[fmt.Sprintf("base64 %d %d", lead, tail)] = []byte(base64.StdEncoding.EncodeToString(whole))
			forms[fmt.Sprintf("base64url %d %d", lead, tail)] = []byte(base64.RawURLEncoding.EncodeToString(whole))
		}
	}
	for _, width := range []int{64, 76} {
		text := base64.StdEncoding.EncodeToString(value)
		var b strings.Builder
		for ; len(text) > width; text = text[width:] {
			b.WriteString(text[:width] + "\n")
		}
		forms[fmt.Sprint("wrapped ", width)] = []byte(b.String() + text + "\n")
	}
	return forms
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestFormsAreFound shows each value in each form, at the edges of what is read at
// once, and across holes.
func TestFormsAreFound(t *testing.T) {
	noise := make([]byte, searchBuffer+searchBuffer/4)
	r := rand.NewChaCha8([32]byte{9})
	_, _ = r.Read(noise)
	for _, v := range values() {
		set := Searching([]Text{v})
		for name, form := range shownAs(v.Value) {
			if found, ok := set.In(slicesOf([]byte("before"), form, []byte("after"))); !ok || found.Name != v.Name {
				t.Errorf("%s as %s is not found", v.Name, name)
			}
			if name != "" && !strings.HasSuffix(name, " 1 1") {
				continue
			}
			for at := searchBuffer - len(form) - 2; at <= searchBuffer+2; at += 1 + len(form)/8 {
				path := filepath.Join(t.TempDir(), "f")
				if err := os.WriteFile(path, slicesOf(noise[:at], form, noise[at:]), 0o600); err != nil {
					t.Fatal(err)
				}
				found := search(t, set, path)
				if len(found) != 1 || found[0].At < int64(at) || found[0].At > int64(at+2) || found[0].Name != v.Name {
					t.Fatalf("%s as %q at %d: %+v", v.Name, name, at, found)
				}
			}
		}
		if found, ok := set.In(noise); ok {
			t.Errorf("%s is found in noise: %+v", v.Name, found)
		}
	}
}

// search returns what is found in a file, less what lies in another find.
func search(t *testing.T, set *Set, path string) []Found {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Found
	err = set.Search(t.Context(), f, func(found Found) error {
		if n := len(all); n == 0 || found.At >= all[n-1].At+int64(all[n-1].Len) {
			all = append(all, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestHoles has values beside holes, and one that ends in zeros which are a hole.
func TestHoles(t *testing.T) {
	value := "zeros\x00\x00\x00\x00"
	set := Searching([]Text{{"zeros", []byte(value)}, {"token", []byte("hunter2")}})
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	want := []int64{5, 1<<20 - 5, 8<<20 + 4096 - 7, 64<<20 - 7}
	for i, at := range want {
		text := "hunter2"
		if i == 1 {
			text = "zeros" // the next block is a hole
		}
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	var got []int64
	for _, found := range search(t, set, path) {
		got = append(got, found.At)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found at %v, want %v", got, want)
	}
}

// TestAgainstOneByOne compares the search for many texts with that for each, on texts
// of few letters, in which much nearly fits.
func TestAgainstOneByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab\x00"[r.IntN(3)]
		}
		return b
	}
	for range 2000 {
		var words []word
		for range 1 + r.IntN(4) {
			words = append(words, word{text: letters(6 + r.IntN(5))})
		}
		text := letters(300)
		set := newSet(words)
		want, length := -1, 0
		for _, w := range words {
			if at := bytes.Index(text, w.text); at >= 0 && (want < 0 || at < want || at == want && len(w.text) > length) {
				want, length = at, len(w.text)
			}
		}
		at, w := set.find(text, 0)
		if at != want || w != nil && len(w.text) != length {
			t.Fatalf("%q in %q: at %d, %+v, want %d", words, text, at, w, want)
		}
	}
}

// TestMasker writes texts with secrets in pieces of every size.
func TestMasker(t *testing.T) {
	set := Masking([]Text{{"k", []byte("first line of it\n  second line\nx\n")}, {"long", []byte("hunter2-and-more")}}, [][]byte{[]byte("hunter2"), []byte("ann:hunter2"), []byte("abc")})
	text := "proxy http://ann:hunter2@proxy:3128 and hunter2, hunt, ann:hunter, hunter2-and-less, hunter2-and-more and abc;" +
		" + first line of it\n\tsecond line\n aHVudGVyMi1hbmQtbW9yZQ== at the end: hunter"
	want := "proxy http://***@proxy:3128 and ***, hunt, ann:hunter, ***-and-less, *** and abc;" +
		" + ***\n\t***\n ***Q== at the end: hunter"
	want = strings.Replace(want, "***Q==", "***"+restOf("aHVudGVyMi1hbmQtbW9yZQ==", set), 1)
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		m := NewMasker(set, &out)
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			if n, err := io.WriteString(m, rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if err := m.Flush(); err != nil || out.String() != want {
			t.Fatalf("in pieces of %d: %q, %v\nwant %q", size, out.String(), err, want)
		}
	}
	if got := set.Masked("a hunter2"); got != "a ***" {
		t.Errorf("got %q", got)
	}
}

// restOf is what of a text follows what is masked of it: padding, and a character that
// depends on what follows in base64.
func restOf(text string, set *Set) string {
	return strings.TrimPrefix(set.Masked(text), "***")
}

// TestMaskerDelays holds back no more than what may begin a secret.
func TestMaskerDelays(t *testing.T) {
	var out strings.Builder
	m := NewMasker(Masking([]Text{{"k", []byte("hunter2")}}, nil), &out)
	for _, c := range [][2]string{{"waiting...", "waiting..."}, {" hu", "waiting... "}, {"n", "waiting... "}, {"ts", "waiting... hunts"}} {
		if _, err := io.WriteString(m, c[0]); err != nil || out.String() != c[1] {
			t.Errorf("after %q: %q, want %q", c[0], out.String(), c[1])
		}
	}
}

// TestMaskedForms masks every form so that the value can't be read from what is left.
func TestMaskedForms(t *testing.T) {
	for _, v := range values() {
		mask, search := Masking([]Text{v}, nil), Searching([]Text{v})
		for name, form := range shownAs(v.Value) {
			if left := mask.Masked("[" + string(form) + "]"); left == "["+string(form)+"]" {
				t.Errorf("%s as %s is not masked: %q", v.Name, name, left)
			} else if found, ok := search.In([]byte(left)); ok {
				t.Errorf("%s as %s is left: %+v in %q", v.Name, name, found, left)
			}
		}
	}
}

// TestEscapes looks for what programs make of one value.
func TestEscapes(t *testing.T) {
	const value = "k/é+ <&>'~(1)😀"
	set := Searching([]Text{{"odd", []byte(value)}})
	for program, text := range map[string]string{
		"Python's json.dumps":             `k/\u00e9+ <&>'~(1)\ud83d\ude00`,
		"PHP's json_encode":               `k\/\u00e9+ <&>'~(1)\ud83d\ude00`,
		"PHP's, JSON_UNESCAPED_UNICODE":   `k\/é+ <&>'~(1)😀`,
		"Go's json.Marshal":               `k/é+ \u003c\u0026\u003e'~(1)😀`,
		"jq --ascii-output, upper case":   `k/\u00E9+ <&>'~(1)\uD83D\uDE00`,
		"Python's quote":                  `k/%C3%A9%2B%20%3C%26%3E%27~%281%29%F0%9F%98%80`,
		"Python's quote_plus":             `k%2F%C3%A9%2B+%3C%26%3E%27~%281%29%F0%9F%98%80`,
		"JavaScript's encodeURIComponent": `k%2F%C3%A9%2B%20%3C%26%3E'~(1)%F0%9F%98%80`,
		"JavaScript's encodeURI":          `k/%C3%A9+%20%3C&%3E'~(1)%F0%9F%98%80`,
		"PHP's urlencode":                 `k%2F%C3%A9%2B+%3C%26%3E%27%7E%281%29%F0%9F%98%80`,
		"curl --data-urlencode":           `k%2F%C3%A9%2B%20%3C%26%3E%27~%281%29%F0%9F%98%80`,
		"lower case":                      `k%2f%c3%a9%2b%20%3c%26%3e%27~%281%29%f0%9f%98%80`,
		".NET's UrlEncode":                `k%2f%c3%a9%2b+%3c%26%3e%27%7e(1)%f0%9f%98%80`,
	} {
		if found, ok := set.In([]byte("before" + text + "after")); !ok || found.Len != len(text) {
			t.Errorf("%s: %s is not found: %+v", program, text, found)
		}
	}
}

func TestNothing(t *testing.T) {
	set := Searching(nil)
	if !set.Empty() {
		t.Error("it finds something")
	}
	if _, ok := set.In([]byte("anything")); ok {
		t.Error("found something")
	}
	if got := set.Masked("anything"); got != "anything" {
		t.Errorf("masked as %q", got)
	}
}

// BenchmarkSearch searches random bytes, and hashes them as the store does, to compare.
func BenchmarkSearch(b *testing.B) {
	noise := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(noise)
	path := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(path, noise, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(int64(len(noise)))
		for b.Loop() {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyBuffer(blake3.New(), f, make([]byte, searchBuffer)); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
	for _, v := range values() {
		b.Run(v.Name, func(b *testing.B) {
			set := Searching([]Text{v})
			b.SetBytes(int64(len(noise)))
			for b.Loop() {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if err := set.Search(b.Context(), f, func(f Found) error { b.Errorf("%+v", f); return nil }); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
}

// TestSearchIn searches parts of files of few letters: what has a byte in one of them is
// found, and nothing that a search of all would not find.
func TestSearchIn(t *testing.T) {
	r := seedtest.Random(t)
	for range 200 {
		text := make([]byte, 2000+r.IntN(3000))
		for i := range text {
			text[i] = "ab\x00"[r.IntN(3)]
		}
		var words []word
		for range 1 + r.IntN(4) {
			at := r.IntN(len(text) - 12)
			words = append(words, word{text: text[at : at+6+r.IntN(6)]})
		}
		var parts [][2]int64
		for at := r.Int64N(300); at < int64(len(text)) && len(parts) < 8; at += 1 + r.Int64N(900) {
			to := at + 1 + r.Int64N(300)
			parts, at = append(parts, [2]int64{at, to}), to
		}
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		set := newSet(words)
		want := map[Found]bool{} // whether a byte lies in the parts
		for at := range int64(len(text)) {
			for _, w := range set.words { // the longest first
				if bytes.HasPrefix(text[at:], w.text) {
					found := Found{At: at, Len: len(w.text)}
					want[found] = slices.ContainsFunc(parts, func(p [2]int64) bool { return at < p[1] && at+int64(found.Len) > p[0] })
				}
			}
		}
		got := searchIn(t, set, path, parts)
		for found, inside := range want {
			longer := func(o Found) bool { return o.At == found.At && o.Len > found.Len }
			if inside && !slices.ContainsFunc(got, longer) && !slices.Contains(got, found) {
				t.Fatalf("%q, parts %v: %+v is not found", words, parts, found)
			}
		}
		for _, found := range got {
			if _, ok := want[found]; !ok {
				t.Fatalf("%q, parts %v: found %+v, which is not there", words, parts, found)
			}
		}
	}
}

func searchIn(t *testing.T, set *Set, path string, parts [][2]int64) (all []Found) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = set.SearchIn(t.Context(), f, parts, func(found Found) error {
		all = append(all, found)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
