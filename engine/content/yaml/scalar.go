package yaml

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Plain scalars mean what YAML 1.1 says, as PyYAML implements it: these are
// the forms of its resolver (https://yaml.org/type/, and for what differs from
// it PyYAML 6).
var (
	intForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	})
	realForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	})
	dateForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	})
	timeForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(Z|([-+])([0-9][0-9]?)(?::([0-9]{2}))?))?)?$`)
	})
	// likeNumber is text that writers of other languages mean as a number.
	likeNumber = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[-+]?(?:[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+|0o[0-7]+|0[0-9]*[89][0-9]*|\.[0-9]+)$`)
	})
)

// special is the meaning of the plain scalars << and = as keys.
type special string

const (
	mergeKey special = "<<"
	valueKey special = "="
)

// resolvePlain is the value of a plain scalar, and what of it may surprise.
func resolvePlain(s string) (any, string, error) {
	if s == "" {
		return nil, "", nil
	}
	switch c := s[0]; {
	case c >= '0' && c <= '9', c == '-', c == '+', c == '.':
		return resolveNumber(s)
	case s == "<<":
		return mergeKey, "", nil
	case s == "=":
		return valueKey, "", nil
	case len(s) <= 5:
		return resolveWord(s)
	}
	return s, "", nil
}

func resolveWord(s string) (any, string, error) {
	switch s {
	case "true", "True", "TRUE":
		return true, "", nil
	case "false", "False", "FALSE":
		return false, "", nil
	case "yes", "Yes", "YES", "on", "On", "ON":
		return true, SurpriseBool, nil
	case "no", "No", "NO", "off", "Off", "OFF":
		return false, SurpriseBool, nil
	case "~", "null", "Null", "NULL":
		return nil, "", nil
	}
	return s, "", nil
}

func resolveNumber(s string) (any, string, error) {
	switch {
	case realForm().MatchString(s):
		v, err := pyFloat(s)
		return v, realSurprise(s), err
	case intForm().MatchString(s):
		v, err := pyInt(s)
		return v, intSurprise(s), err
	case dateForm().MatchString(s), len(s) > 10 && timeForm().MatchString(s):
		v, err := pyTime(s)
		return v, surpriseDate, err
	case likeNumber().MatchString(s):
		return s, surpriseText, nil
	}
	return s, "", nil
}

// maxDigits is how many decimal digits Python reads as an int.
const maxDigits = 4300

// pyInt is the int that PyYAML makes of text.
func pyInt(s string) (any, error) {
	bad := fmt.Errorf("%q is no int", s)
	text := strings.ReplaceAll(s, "_", "")
	negative := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	base := 10
	switch {
	case text == "":
		return nil, bad
	case strings.HasPrefix(text, "0b"):
		text, base = text[2:], 2
	case strings.HasPrefix(text, "0x"):
		text, base = text[2:], 16
	case text[0] == '0' && text != "0":
		base = 8
	case strings.Contains(text, ":"):
		return sexagesimal(text, negative)
	}
	if strings.ContainsAny(text, "+-") || base == 10 && len(text) > maxDigits {
		return nil, bad
	}
	n, ok := new(big.Int).SetString(text, base)
	if !ok {
		return nil, bad
	}
	return signed(n, negative), nil
}

// signed gives an int its sign, and its smallest type.
func signed(n *big.Int, negative bool) any {
	if negative {
		n.Neg(n)
	}
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// sexagesimal reads an int in base 60, such as 1:30.
func sexagesimal(text string, negative bool) (any, error) {
	n := new(big.Int)
	for part := range strings.SplitSeq(text, ":") {
		digit, ok := new(big.Int).SetString(part, 10)
		if !ok || len(part) > maxDigits || digit.Sign() < 0 {
			return nil, fmt.Errorf("%q is no int", text)
		}
		n.Add(n.Mul(n, big.NewInt(60)), digit)
	}
	return signed(n, negative), nil
}

// pyFloat is the float that PyYAML makes of text.
func pyFloat(s string) (any, error) {
	text := strings.ToLower(strings.ReplaceAll(s, "_", ""))
	sign := 1.0
	if strings.HasPrefix(text, "-") {
		sign = -1
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	switch text {
	case ".inf":
		text = "inf"
	case ".nan":
		text = "nan"
	}
	value := 0.0
	for part := range strings.SplitSeq(text, ":") {
		digit, err := strconv.ParseFloat(part, 64)
		if err != nil && !strings.Contains(err.Error(), strconv.ErrRange.Error()) || strings.HasPrefix(part, "0x") {
			return nil, fmt.Errorf("%q is no float", s)
		}
		value = value*60 + digit
	}
	return sign * value, nil
}

// pyTime is the date or time that PyYAML makes of text.
func pyTime(s string) (any, error) {
	m := timeForm().FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%q is no date or time", s)
	}
	var n [7]int
	for i := 1; i <= 6; i++ {
		n[i], _ = strconv.Atoi(m[i])
	}
	t := time.Date(n[1], time.Month(n[2]), n[3], n[4], n[5], n[6], 0, time.UTC)
	if n[1] == 0 || t.Month() != time.Month(n[2]) || t.Day() != n[3] || t.Hour() != n[4] || t.Minute() != n[5] || t.Second() != n[6] {
		return nil, fmt.Errorf("%q is no date that exists: write it in quotes if it is text", s)
	}
	if m[4] == "" {
		return Time(t.Format(time.DateOnly)), nil
	}
	text := t.Format("2006-01-02T15:04:05")
	if fraction := strings.TrimRight(m[7][:min(6, len(m[7]))], "0"); fraction != "" {
		text += "." + fraction
	}
	zone, err := pyZone(m[8], m[9], m[10], m[11])
	return Time(text + zone), err
}

// pyZone renders a time zone that was matched by timeForm.
func pyZone(zone, sign, hours, minutes string) (string, error) {
	if sign == "" {
		return zone, nil
	}
	h, _ := strconv.Atoi(hours)
	m, _ := strconv.Atoi(minutes)
	if m += 60 * h; m >= 24*60 {
		return "", fmt.Errorf("%q is no time zone", zone)
	} else if m == 0 {
		return "Z", nil
	}
	return fmt.Sprintf("%s%02d:%02d", sign, m/60, m%60), nil
}

// resolveTagged is the value of a scalar with a tag such as !!int.
func resolveTagged(tag, s string) (any, error) {
	switch tag {
	case "!!str", "!!python/unicode":
		return s, nil
	case "!!int":
		return pyInt(s)
	case "!!float":
		return pyFloat(s)
	case "!!null":
		return nil, nil
	case "!!timestamp":
		return pyTime(s)
	case "!!binary":
		return pyBinary(s)
	case "!!bool":
		if v, _, _ := resolveWord(strings.ToLower(s)); v == true || v == false {
			return v, nil
		}
		return nil, fmt.Errorf("%q is no bool", s)
	}
	return nil, fmt.Errorf("the tag %s is unknown to cloud-init", tag)
}

// pyBinary decodes base64 as Python does: characters that are no digit of it
// are skipped, and what stands behind a complete padding does not count.
func pyBinary(s string) (any, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return nil, errors.New("!!binary is no base64: it has a character that is not ASCII")
	}
	var digits []byte
	pads := 0
	for i := range len(s) {
		c := s[i]
		switch quad := len(digits) % 4; {
		case c == '=' && quad >= 2:
			if pads++; quad+pads == 4 {
				return decodeBinary(digits)
			}
		case strings.IndexByte(letters+"0123456789+/", c) >= 0:
			digits, pads = append(digits, c), 0
		}
	}
	if len(digits)%4 != 0 {
		return nil, errors.New("!!binary is no base64: its padding is missing")
	}
	return decodeBinary(digits)
}

func decodeBinary(digits []byte) (any, error) {
	data, err := base64.RawStdEncoding.DecodeString(string(digits))
	if err != nil {
		return nil, fmt.Errorf("!!binary is no base64: %w", err)
	}
	return Bytes(data), nil
}
