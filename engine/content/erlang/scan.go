package erlang

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// erlLatin1 reports whether a comment in the first two lines names the
// encoding Latin-1, as Erlang finds it: "coding", a colon or equals sign, the
// name; all in the first 512 bytes.
func erlLatin1(text string) bool {
	rest := text[:min(len(text), 512)]
	for range 2 {
		line, more, _ := strings.Cut(rest, "\n")
		rest = more
		_, comment, _ := strings.Cut(line, "%")
		for {
			_, after, found := strings.Cut(comment, "coding")
			if !found {
				break
			}
			comment = after
			after = strings.TrimLeft(after, " ")
			if after == "" || after[0] != ':' && after[0] != '=' {
				continue
			}
			name := strings.ToLower(strings.TrimLeft(after[1:], " "))
			return strings.HasPrefix(name, "latin-1") && (len(name) == 7 || !isEncodingChar(name[7]))
		}
	}
	return false
}

func isEncodingChar(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// skip moves behind white space and comments.
func (p *parser) skip() {
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		if c == '%' {
			comment, _, _ := strings.Cut(p.text[p.pos:], "\n")
			p.pos += len(comment)
			continue
		}
		if c > ' ' && c != 0xc2 {
			return
		}
		n := p.space()
		if n == 0 {
			return
		}
		p.pos += n
	}
}

// space is the length of the white space character that comes next, or 0:
// the control characters, the blank, and U+0080 to U+00A0.
func (p *parser) space() int {
	switch c := p.text[p.pos]; {
	case c <= ' ':
		return 1
	case c == 0xc2 && p.text[p.pos+1] <= 0xa0:
		return 2
	}
	return 0
}

// isNameChar is the length of the character s begins with if it can be part
// of a name: letters of Latin-1, digits, "_" and "@"; else 0.
func isNameChar(s string) int {
	if s == "" {
		return 0
	}
	switch c := s[0]; {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '@':
		return 1
	case c == 0xc3 && s[1] != 0x97 && s[1] != 0xb7: // U+00C0 to U+00FF but the signs of multiplication and division
		return 2
	}
	return 0
}

func nameLen(s string) int {
	n := 0
	for {
		k := isNameChar(s[n:])
		if k == 0 {
			return n
		}
		n += k
	}
}

// word reads an unquoted atom, or what begins with a reserved word.
func (p *parser) word() bool {
	at := p.pos
	p.pos += nameLen(p.text[at:])
	name := p.text[at:p.pos]
	if name == "fun" {
		return p.fun(at)
	}
	if isReserved(name) {
		return p.fail(at, "%s is a reserved word: the atom is written '%s'", name, name)
	}
	return p.atom(at, name)
}

func (p *parser) atom(at int, name string) bool {
	if len(name) > maxAtom && utf8.RuneCountInString(name) > maxAtom {
		return p.fail(at, "an atom has at most %d characters", maxAtom)
	}
	return p.push(at, NewAtom(name))
}

// isReserved reports whether a name is a reserved word of the language.
func isReserved(name string) bool {
	switch name {
	case "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div", "end", "fun",
		"if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor":
		return true
	}
	return false
}

// digits reads digits of the base, which may have single "_" between them, and
// returns them without those. underscores reports whether there were any.
func (p *parser) digits(base int) (text string, underscores bool) {
	start := p.pos
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		if c == '_' && p.pos > start && p.text[p.pos-1] != '_' && p.pos+1 < len(p.text) && digitValue(p.text[p.pos+1]) < base {
			underscores = true
		} else if digitValue(c) >= base {
			break
		}
		p.pos++
	}
	text = p.text[start:p.pos]
	if underscores {
		text = strings.ReplaceAll(text, "_", "")
	}
	return text, underscores
}

// digitValue is what a letter or digit stands for, or 36.
func digitValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'Z':
		return int(c-'A') + 10
	}
	return 36
}

// number reads an integer or float whose sign, if any, was read at the offset.
func (p *parser) number(at int, minus bool) bool {
	text, _ := p.digits(10)
	if len(text) > maxDigits {
		return p.fail(at, "a number of more than %d digits", maxDigits)
	}
	switch {
	case p.peek() == '#':
		return p.based(at, text, minus)
	case p.peek() == '.' && p.pos+1 < len(p.text) && digitValue(p.text[p.pos+1]) < 10:
		return p.float(at, text, minus)
	}
	for len(text) > 1 && text[0] == '0' {
		text = text[1:]
	}
	if minus {
		text = negated(text)
	}
	return p.push(at, NewInt(text))
}

// float reads what follows the whole part of a decimal float.
func (p *parser) float(at int, whole string, minus bool) bool {
	p.pos++
	fraction, _ := p.digits(10)
	text := whole + "." + fraction
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		text += "e" + p.exponent()
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return p.fail(at, "bad float %s", p.text[at:p.pos])
	}
	return p.pushFloat(at, f, minus)
}

// exponent reads a sign and digits.
func (p *parser) exponent() string {
	sign := ""
	if c := p.peek(); c == '-' || c == '+' {
		sign = p.text[p.pos : p.pos+1]
		p.pos++
	}
	digits, _ := p.digits(10)
	return sign + digits
}

func (p *parser) pushFloat(at int, f float64, minus bool) bool {
	if minus {
		f = -f
	}
	return p.push(at, NewFloat(f))
}

// based reads what follows the base of a number.
func (p *parser) based(at int, baseText string, minus bool) bool {
	base, err := strconv.Atoi(baseText)
	if err != nil || base < 2 || base > 36 {
		return p.fail(at, "bad base %s: a base is from 2 to 36", baseText)
	}
	p.pos++
	text, _ := p.digits(base)
	if text == "" {
		return p.unexpected(fmt.Sprintf("a digit of base %d", base))
	}
	if len(text) > maxDigits {
		return p.fail(at, "a number of more than %d digits", maxDigits)
	}
	if p.peek() == '.' && p.pos+1 < len(p.text) && digitValue(p.text[p.pos+1]) < base {
		return p.basedFloat(at, base, text, minus)
	}
	digits, err := decimal(text, base)
	if err != nil {
		return p.fail(at, "bad number %s", p.text[at:p.pos])
	}
	if len(digits) > maxDigits {
		return p.fail(at, "a number of more than %d digits", maxDigits)
	}
	if minus {
		digits = negated(digits)
	}
	return p.push(at, NewInt(digits))
}

// decimal translates digits of a base.
func decimal(text string, base int) (string, error) {
	if n, err := strconv.ParseInt(text, base, 64); err == nil {
		return formatInt(n), nil
	}
	n, ok := new(big.Int).SetString(text, base)
	if !ok {
		return "", fmt.Errorf("bad digits %q", text)
	}
	return n.String(), nil
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }

// maxExponent bounds the exponent of a based float: what lies beyond is
// no float in any base.
const maxExponent = 5000

// basedFloat reads what follows the whole part of a float such as
// 16#fe.8#e2: its exponent is decimal and counts in powers of the base.
func (p *parser) basedFloat(at, base int, whole string, minus bool) bool {
	p.pos++
	fraction, _ := p.digits(base)
	exponent := 0
	if strings.HasPrefix(p.text[p.pos:], "#e") || strings.HasPrefix(p.text[p.pos:], "#E") {
		p.pos += 2
		var err error
		if exponent, err = strconv.Atoi(p.exponent()); err != nil {
			return p.fail(at, "bad float %s", p.text[at:p.pos])
		}
	}
	mantissa, ok := new(big.Int).SetString(whole+fraction, base)
	exponent -= len(fraction)
	if !ok || exponent > maxExponent || exponent < -maxExponent {
		return p.fail(at, "bad float %s", p.text[at:p.pos])
	}
	power := new(big.Int).Exp(big.NewInt(int64(base)), big.NewInt(int64(max(exponent, -exponent))), nil)
	r := new(big.Rat).SetInt(mantissa)
	if exponent < 0 {
		r.Quo(r, new(big.Rat).SetInt(power))
	} else {
		r.Mul(r, new(big.Rat).SetInt(power))
	}
	f, _ := r.Float64()
	if math.IsInf(f, 0) {
		return p.fail(at, "bad float %s", p.text[at:p.pos])
	}
	return p.pushFloat(at, f, minus)
}
