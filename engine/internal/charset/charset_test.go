package charset

import (
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	const (
		mark  = "a byte-order mark (U+FEFF) begins the text: save it as UTF-8 without one"
		mark2 = "a byte-order mark of UTF-16 begins the text: save it as UTF-8 without one"
		null  = "a NUL byte can't be part of a text: is this a file of another kind, or one in UTF-16?"
	)
	for text, want := range map[string]string{
		"":                  "",
		"é☃\U0001f600\n":    "",
		"a\ufffdb":          "", // a character as any other, where it is written
		"a\ufeff":           "",
		"\ufeffa":           "f:1:1: " + mark,
		"\xff\xfea\x00":     "f:1:1: " + mark2,
		"\xfe\xff\x00a":     "f:1:1: " + mark2,
		"a\x00":             "f:1:2: " + null,
		"é\n\né\x00\xff":    "f:3:2: " + null,
		"x = \"caf\xe9\"\n": `f:1:9: the byte 0xE9 is not UTF-8 (in Latin-1 it is "é"): save the text as UTF-8`,
		"a\n\xe2\x98":       `f:2:1: the byte 0xE2 is not UTF-8 (in Latin-1 it is "â"): save the text as UTF-8`,
		"\xff\x00":          `f:1:1: the byte 0xFF is not UTF-8 (in Latin-1 it is "ÿ"): save the text as UTF-8`,
		"\xed\xa0\x80":      `f:1:1: the byte 0xED is not UTF-8 (in Latin-1 it is "í"): save the text as UTF-8`, // a surrogate
	} {
		got := ""
		if err := Check("f", text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s\nwant %s", text, got, want)
		}
	}
}

// Fuzz holds that what is found lies in the text, and that nothing is found only
// where the text is UTF-8 without NUL bytes.
func Fuzz(f *testing.F) {
	for _, seed := range []string{"", "a", "\ufeff", "\x00", "é\xff", "\xff\xfe"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, problem := Find(text)
		if problem != "" && at >= len(text) || at < 0 {
			t.Fatalf("%q: %d", text, at)
		}
		for i := range len(text) {
			if problem == "" && (text[i] == 0 || !utf8.ValidString(text)) {
				t.Fatalf("%q is taken for text", text)
			}
		}
	})
}
