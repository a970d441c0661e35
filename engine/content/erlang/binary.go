package erlang

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var errBinary = errors.New("the binaries of this text are larger than all of the text, by more than a megabyte")

// spend counts n bytes against what all binaries of the text may hold.
func (p *parser) spend(at, n int) bool {
	if p.spare -= n; p.spare < 0 {
		return p.fail(at, "%s", errBinary)
	}
	return true
}

// bitString is a binary that grows. A last byte that is not full has its bits
// at the top.
type bitString struct {
	data []byte
	free int // bits of the last byte that are not used
}

// append adds the first n bits of data.
func (b *bitString) append(data []byte, n int) {
	data = data[:(n+7)/8]
	for i, c := range data {
		if last := n - 8*i; last < 8 {
			c &= 0xff << (8 - last)
		}
		if b.free == 0 {
			b.data = append(b.data, c)
			continue
		}
		b.data[len(b.data)-1] |= c >> (8 - b.free)
		b.data = append(b.data, c<<b.free)
	}
	total := len(b.data)*8 - b.free
	if len(data) > 0 {
		total -= 8*len(data) - n
	}
	b.data = b.data[:(total+7)/8]
	b.free = len(b.data)*8 - total
}

// binary reads <<segment, ...>>.
func (p *parser) binary() bool {
	at := p.pos
	if !strings.HasPrefix(p.text[at:], "<<") {
		return p.unexpected("a term")
	}
	p.pos += 2
	var bits bitString
	for first := true; ; first = false {
		p.skip()
		if strings.HasPrefix(p.text[p.pos:], ">>") && first {
			break
		}
		if !p.segment(&bits) {
			return false
		}
		if p.skip(); p.peek() == ',' {
			p.pos++
			continue
		}
		if !strings.HasPrefix(p.text[p.pos:], ">>") {
			return p.unclosed(at, `"," or ">>"`)
		}
		break
	}
	p.pos += 2
	return p.push(at, Term{kind: binaryTerm, text: string(bits.data), bits: uint8((8 - bits.free) % 8)})
}

// segment is how a value becomes part of a binary.
type segment struct {
	typ    string // integer, float, binary, utf8, utf16, utf32
	size   int    // in units; -1 is all of a binary, or not given
	given  bool   // whether the size was
	none   bool   // whether the size was given as undefined
	unit   int    // in bits
	little bool
}

// segment reads one segment: value, :size and /types, of which the last two may be absent.
func (p *parser) segment(bits *bitString) bool {
	p.skip()
	at := p.pos
	if !p.term() {
		return false
	}
	value := p.pop()
	if value.kind == mapTerm && p.text[at] == '#' {
		return p.fail(at, "a map can't be part of a binary")
	}
	p.skip()
	if c := p.peek(); c == ',' || c == '>' {
		if done, ok := p.plain(bits, &value); done {
			return ok
		}
	}
	s := segment{size: -1}
	if p.peek() == ':' && !p.segmentSize(&s) {
		return false
	}
	var types []string
	if p.skip(); p.peek() == '/' {
		var ok bool
		if types, ok = p.segmentTypes(); !ok {
			return false
		}
	}
	if err := s.resolve(types); err != nil {
		return p.fail(at, "%s", err)
	}
	if err := p.encode(bits, &s, &value); err != nil {
		return p.fail(at, "%s", err)
	}
	return true
}

// plain adds what has neither size nor types: a string, or an integer that is one digit to three.
func (p *parser) plain(bits *bitString, value *Term) (done, ok bool) {
	data := lowBytes(value.text)
	if value.kind == intTerm && len(value.text) <= 3 {
		n, _ := strconv.Atoi(value.text)
		data = append(data[:0], byte(n))
	} else if value.kind != stringTerm {
		return false, false
	}
	if err := p.encodeBytes(bits, data); err != nil {
		return true, p.fail(int(value.off), "%s", err)
	}
	return true, true
}

func (p *parser) pop() Term {
	t := p.stack[len(p.stack)-1]
	p.stack = p.stack[:len(p.stack)-1]
	return t
}

// maxSegment bounds the size of a segment, in units.
const maxSegment = 1 << 31

// segmentSize reads ":size".
func (p *parser) segmentSize(s *segment) bool {
	p.pos++
	p.skip()
	at := p.pos
	if c := p.peek(); c == '-' || c == '+' || !p.term() {
		return p.err == nil && p.unexpected("a size") || false
	}
	t := p.pop()
	s.given = true
	if t.kind == atomTerm && (t.text == "all" || t.text == "undefined") {
		s.given, s.none = t.text == "all", t.text != "all"
		return true
	}
	n, err := strconv.Atoi(t.text)
	if t.kind != intTerm || err != nil || n < 0 || n > maxSegment {
		return p.fail(at, "a segment's size is a number from 0 to %d", maxSegment)
	}
	s.size = n
	return true
}

// segmentTypes reads "/type-type-unit:8".
func (p *parser) segmentTypes() ([]string, bool) {
	var types []string
	for {
		p.pos++ // the slash or hyphen
		p.skip()
		at := p.pos
		if !p.term() {
			return nil, false
		}
		t := p.pop()
		if t.kind != atomTerm || p.text[at] == '(' || p.text[at] == '$' {
			return nil, p.fail(at, "want the type of a segment, such as utf8 or little")
		}
		name := t.text
		if p.skip(); p.peek() == ':' {
			p.pos++
			p.skip()
			unit, underscores := p.digits(10)
			if unit == "" || underscores || name != "unit" {
				return nil, p.fail(at, "want a unit of bits, such as unit:8")
			}
			name += ":" + unit
		}
		types = append(types, name)
		if p.skip(); p.peek() != '-' {
			return types, true
		}
	}
}

// resolve sets what the types say, and checks that they agree.
func (s *segment) resolve(types []string) error {
	set := map[string]string{}
	for _, t := range types {
		meaning := segmentMeaning(t)
		if meaning == nil {
			return fmt.Errorf("unknown type %s of a segment (have integer, float, binary, bytes, bitstring, bits, utf8, utf16, utf32, signed, unsigned, big, little, native, unit:1 to unit:256)", t)
		}
		for what, value := range meaning {
			if old, twice := set[what]; twice && old != value {
				return fmt.Errorf("the types of the segment contradict each other: %s %s and %s", what, old, value)
			}
			set[what] = value
		}
	}
	s.typ, s.little = set["type"], set["order"] == "little"
	if s.typ == "" {
		s.typ = "integer"
	}
	return s.defaults(set["unit"])
}

// segmentMeaning is what one type of a segment sets.
func segmentMeaning(name string) map[string]string {
	switch name {
	case "integer", "float", "binary", "utf8", "utf16", "utf32":
		return map[string]string{"type": name}
	case "bytes":
		return map[string]string{"type": "binary", "unit": "8"}
	case "bitstring", "bits":
		return map[string]string{"type": "binary", "unit": "1"}
	case "big", "little":
		return map[string]string{"order": name}
	case "native": // every machine that b9 makes images for
		return map[string]string{"order": "little"}
	case "signed", "unsigned":
		return map[string]string{"sign": name}
	}
	if unit, ok := strings.CutPrefix(name, "unit:"); ok {
		if n, err := strconv.Atoi(unit); err == nil && n >= 1 && n <= 256 {
			return map[string]string{"unit": strconv.Itoa(n)}
		}
	}
	return nil
}

// defaults sets the size and unit that were not given.
func (s *segment) defaults(unit string) error {
	s.unit, _ = strconv.Atoi(unit)
	wide := s.typ == "integer" || s.typ == "float"
	switch {
	case strings.HasPrefix(s.typ, "utf"):
		if s.given || unit != "" {
			return fmt.Errorf("a segment of the type %s has neither size nor unit", s.typ)
		}
	case s.none:
		return fmt.Errorf("only segments of the types utf8, utf16 and utf32 have the size undefined")
	case wide && !s.given && unit != "":
		return fmt.Errorf("a segment with a unit needs a size")
	case wide && s.size < 0 && s.given:
		return fmt.Errorf("only a segment of the type binary has the size all")
	case wide && !s.given:
		s.size, s.unit = map[string]int{"integer": 8, "float": 64}[s.typ], 1
	case wide && unit == "":
		s.unit = 1
	case unit == "":
		s.unit = 8
	}
	return nil
}

// encode adds the value, or each character of a string.
func (p *parser) encode(bits *bitString, s *segment, value *Term) error {
	switch {
	case value.kind != stringTerm:
		return p.encodeOne(bits, s, value)
	case value.text != "" && s.typ == "utf8":
		return p.encodeBytes(bits, []byte(value.text))
	case value.text != "" && s.typ == "integer" && s.size*s.unit == 8:
		return p.encodeBytes(bits, lowBytes(value.text))
	case value.text == "": // wrong types are wrong without a character, too
		zero := NewInt("0")
		return p.encodeOne(new(bitString), s, &zero)
	}
	for _, r := range value.text {
		c := NewInt(formatInt(int64(r)))
		if err := p.encodeOne(bits, s, &c); err != nil {
			return err
		}
	}
	return nil
}

// lowBytes is the lowest byte of each character.
func lowBytes(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

func (p *parser) encodeBytes(bits *bitString, data []byte) error {
	if !p.spend(0, len(data)) {
		return errBinary
	}
	bits.append(data, 8*len(data))
	return nil
}

func (p *parser) encodeOne(bits *bitString, s *segment, value *Term) error {
	n := max(s.size, 0) * s.unit
	if s.size < 0 {
		n = 8 * len(value.text)
	}
	if !p.spend(0, (n+7)/8+1) {
		return errBinary
	}
	switch s.typ {
	case "integer":
		return s.integer(bits, value, n)
	case "float":
		return s.float(bits, value, n)
	case "binary":
		return s.binary(bits, value)
	}
	return s.character(bits, value)
}

// integer adds the lowest n bits of an integer in two's complement.
func (s *segment) integer(bits *bitString, value *Term, n int) error {
	if value.kind != intTerm {
		return fmt.Errorf("%s in a segment of the type integer", value.describe())
	}
	v, _ := new(big.Int).SetString(value.text, 10)
	mask := new(big.Int).Lsh(big.NewInt(1), uint(n))
	v.And(v, mask.Sub(mask, big.NewInt(1))) // of a negative number, too, these are the bits
	data := make([]byte, (n+7)/8)
	spare := 8*len(data) - n
	if s.little {
		slices.Reverse(v.FillBytes(data))
		if spare > 0 { // the last byte has the highest bits of the number
			data[len(data)-1] <<= spare
		}
	} else {
		v.Lsh(v, uint(spare)).FillBytes(data)
	}
	bits.append(data, n)
	return nil
}

// float adds a float of 16, 32 or 64 bits (IEEE 754).
func (s *segment) float(bits *bitString, value *Term, n int) error {
	f, err := strconv.ParseFloat(value.text, 64)
	if value.kind != floatTerm && value.kind != intTerm || err != nil {
		return fmt.Errorf("%s in a segment of the type float", value.describe())
	}
	var data []byte
	switch n {
	case 64:
		data = binary.BigEndian.AppendUint64(nil, math.Float64bits(f))
	case 32:
		if math.IsInf(float64(float32(f)), 0) {
			return fmt.Errorf("%s does not fit into a float of 32 bits", value.text)
		}
		data = binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(f)))
	case 16:
		half, ok := halfFloat(f)
		if !ok {
			return fmt.Errorf("%s does not fit into a float of 16 bits", value.text)
		}
		data = binary.BigEndian.AppendUint16(nil, half)
	default:
		return fmt.Errorf("a float has 16, 32 or 64 bits, not %d", n)
	}
	if s.little {
		slices.Reverse(data)
	}
	bits.append(data, n)
	return nil
}

// halfFloat rounds to a float of 16 bits, to even; ok is false beyond its range.
func halfFloat(f float64) (half uint16, ok bool) {
	sign := uint16(math.Float64bits(f) >> 48 & 0x8000)
	f = math.Abs(f)
	if f < 0x1p-14 { // subnormal: in units of 2^-24
		return sign | uint16(math.RoundToEven(f*0x1p24)), true
	}
	fraction, exponent := math.Frexp(f) // f = fraction * 2^exponent, fraction in [0.5, 1)
	mantissa := uint32(math.RoundToEven(fraction * 2048))
	if mantissa == 2048 {
		mantissa, exponent = 1024, exponent+1
	}
	if exponent > 16 {
		return 0, false
	}
	return sign | uint16(exponent+14)<<10 | uint16(mantissa-1024), true
}

// binary adds a binary, or as much of it as the size says.
func (s *segment) binary(bits *bitString, value *Term) error {
	if value.kind != binaryTerm {
		return fmt.Errorf("%s in a segment of the type binary", value.describe())
	}
	have := 8 * len(value.text)
	if value.bits > 0 {
		have -= 8 - int(value.bits)
	}
	n := s.size * s.unit
	if s.size < 0 {
		n = have
	}
	if n > have || n%s.unit != 0 {
		return fmt.Errorf("a binary of %d bits does not fit its segment", have)
	}
	bits.append([]byte(value.text), n)
	return nil
}

// character adds a character in an encoding of Unicode.
func (s *segment) character(bits *bitString, value *Term) error {
	n, err := strconv.ParseInt(value.text, 10, 32)
	if value.kind != intTerm || err != nil || !utf8.ValidRune(rune(n)) {
		return fmt.Errorf("%s is no character in a segment of the type %s", value.describe(), s.typ)
	}
	var order binary.AppendByteOrder = binary.BigEndian
	if s.little {
		order = binary.LittleEndian
	}
	var data []byte
	switch s.typ {
	case "utf8":
		data = utf8.AppendRune(nil, rune(n))
	case "utf16":
		for _, unit := range utf16.AppendRune(nil, rune(n)) {
			data = order.AppendUint16(data, unit)
		}
	case "utf32":
		data = order.AppendUint32(nil, uint32(n))
	}
	bits.append(data, 8*len(data))
	return nil
}
