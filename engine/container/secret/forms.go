package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
)

// word is one text that is looked for.
type word struct {
	text       []byte
	name, form string
}

// leastCore is the length from which what is certain of an encoding is looked for:
// 42 bits.
const leastCore = 7

// searchWords are the texts that show that a value is there, as a whole.
func searchWords(t Text) []word {
	value := trimmed(t.Value)
	words := []word{{value, t.Name, ""}}
	add := func(form string, text []byte) {
		if len(text) >= leastCore && !bytes.Contains(text, value) {
			words = append(words, word{text, t.Name, form})
		}
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for lead := range 3 {
			add("base64", base64Core(enc, value, lead))
		}
	}
	for _, line := range base64Lines(value) {
		add("base64", line[len(line)-1])
	}
	digits := hex.EncodeToString(value)
	add("hexadecimal", []byte(digits))
	add("hexadecimal", []byte(strings.ToUpper(digits)))
	add("the escapes of a URL", []byte(url.QueryEscape(string(value))))
	add("the escapes of a URL", []byte(url.PathEscape(string(value))))
	add("the escapes of JSON", jsonText(value))
	add("the quotes of a shell", bytes.ReplaceAll(value, []byte("'"), []byte(`'\''`)))
	add("the quotes of a shell", bytes.ReplaceAll(value, []byte("'"), []byte(`'"'"'`)))
	return words
}

// maskWords are the texts to be masked of a value: beside those that show it as a
// whole its lines, of which a program may print one, and those of its base64.
func maskWords(t Text) []word {
	words := searchWords(t)
	add := func(text []byte) {
		if len(text) >= leastValue {
			words = append(words, word{text, t.Name, ""})
		}
	}
	if bytes.IndexByte(trimmed(t.Value), '\n') >= 0 {
		for line := range bytes.Lines(t.Value) {
			add(bytes.TrimSpace(line))
		}
	}
	for _, lines := range base64Lines(trimmed(t.Value)) {
		for _, line := range lines {
			add(line)
		}
	}
	return words
}

// base64Core is what base64 makes of value where lead bytes, less than three, stand
// before it in their group: the characters that depend on nothing else.
func base64Core(enc *base64.Encoding, value []byte, lead int) []byte {
	text := make([]byte, enc.EncodedLen(lead+len(value)))
	enc.Encode(text, append(make([]byte, lead, lead+len(value)), value...))
	return text[(8*lead+5)/6 : 8*(lead+len(value))/6]
}

// base64Lines are the whole lines of a file that base64(1) or openssl(1) makes of value,
// of 76 and of 64 characters, where there are several.
func base64Lines(value []byte) [][][]byte {
	var all [][][]byte
	text := []byte(base64.StdEncoding.EncodeToString(value))
	for _, width := range []int{76, 64} {
		if len(text) <= width {
			continue
		}
		var lines [][]byte
		for rest := text; len(rest) >= width; rest = rest[width:] {
			lines = append(lines, rest[:width:width])
		}
		all = append(all, lines)
	}
	return all
}

// jsonText is a value within the quotes of JSON.
func jsonText(value []byte) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(string(value)) != nil || b.Len() < 3 {
		return nil
	}
	return b.Bytes()[1 : b.Len()-2] // less the quotes and the line feed
}
