package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf16"
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
	for _, text := range urlTexts(value) {
		add("the escapes of a URL", text)
	}
	for _, text := range jsonTexts(value) {
		add("the escapes of JSON", text)
	}
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

// urlTexts are what programs make of a value in a URL. They escape all but letters and
// digits, differ in which marks they leave (RFC 3986, section 2.3; JavaScript's
// encodeURIComponent and encodeURI; Java's, .NET's and PHP's; Python's quote leaves "/"), and write
// hexadecimal digits in either case.
func urlTexts(value []byte) [][]byte {
	texts := [][]byte{[]byte(url.QueryEscape(string(value))), []byte(url.PathEscape(string(value)))}
	for _, digits := range [...]string{"0123456789ABCDEF", "0123456789abcdef"} {
		for _, marks := range [...]string{"-._~", "-._~/", "-._", "-_", "-._~!*'()", "-._~!*'();/?:@&=+$,#", "-._~&$+:=@", "-._*", "-_.!*()"} {
			text := percent(value, marks, digits)
			texts = append(texts, text, bytes.ReplaceAll(text, []byte("%20"), []byte("+")))
		}
	}
	return texts
}

// percent escapes all of a value but letters, digits and marks.
func percent(value []byte, marks, digits string) []byte {
	var text []byte
	for _, c := range value {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(marks, c) >= 0 {
			text = append(text, c)
			continue
		}
		text = append(text, '%', digits[c>>4], digits[c&15])
	}
	return text
}

// jsonTexts are what programs make of a value within the quotes of JSON (RFC 8259,
// section 7): with what is not ASCII as it is or escaped, with and without the escapes
// that HTML wants, "/" with and without its own, and hexadecimal digits in either case.
func jsonTexts(value []byte) [][]byte {
	plain := jsonText(value, false)
	html := jsonText(value, true)
	var texts [][]byte
	for _, text := range [][]byte{plain, html, asciiText(plain, "%04x"), asciiText(plain, "%04X"), asciiText(html, "%04x")} {
		texts = append(texts, text, bytes.ReplaceAll(text, []byte("/"), []byte(`\/`)))
	}
	return texts
}

// asciiText writes what is not ASCII in a JSON text in UTF-16, as JSON's escapes do.
func asciiText(text []byte, digits string) []byte {
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune(string(text))) {
		if unit < 0x80 {
			b.WriteByte(byte(unit))
			continue
		}
		fmt.Fprintf(&b, `\u`+digits, unit)
	}
	return b.Bytes()
}

// jsonText is a value within the quotes of JSON, as Go writes it.
func jsonText(value []byte, html bool) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if e.Encode(string(value)) != nil || b.Len() < 3 {
		return nil
	}
	return b.Bytes()[1 : b.Len()-2] // less the quotes and the line feed
}
