package debian

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/builtins/lang"
)

// apt reads keyrings as its own user, and takes a colon or a comma in their names
// for something else. A keyring that it could not read so, such as one below a home
// directory or one that a step has made, goes into the description of the source
// itself, as sources.list(5) allows it: in the armour of RFC 9580, 6.2.

// keysOf is the keyring that the call gives, nil for none.
func (s *staging) keysOf() ([]byte, error) {
	switch {
	case s.job.Has("keyring"):
		text, err := lang.InputText(s.job, "keyring")
		return []byte(text), err
	case s.Keyring == "":
		return nil, nil
	}
	data, err := os.ReadFile(s.Keyring)
	if err != nil {
		return nil, keyringError(s.Keyring, err)
	}
	return data, nil
}

// installKeyring lets the sources be checked with the keyring of the call, and
// says where it will be in the image: the ending of its name says whether it is
// armoured.
func (s *staging) installKeyring() (err error) {
	if s.keys, err = s.keysOf(); err != nil || s.keys == nil {
		return err
	}
	s.keyring = "/etc/apt/keyrings/archive-keyring.gpg"
	if isArmored(s.keys) {
		s.keyring = "/etc/apt/keyrings/archive-keyring.asc"
	}
	embedded, err := embed(s.keys)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	for i := range s.sources {
		s.sources[i] = s.sources[i].with("Signed-By", embedded)
	}
	return nil
}

// readable is the sources with those keyrings embedded that apt's user could not
// read from their files.
func readable(sources []aptSource) ([]aptSource, error) {
	out := make([]aptSource, len(sources))
	for i, s := range sources {
		out[i] = s
		signed := s.field("Signed-By")
		if !strings.HasPrefix(signed, "/") {
			continue
		}
		var keys [][]byte
		plain := true
		for _, file := range strings.FieldsFunc(signed, func(r rune) bool { return strings.ContainsRune(", \n\t", r) }) {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, keyringError(file, err)
			}
			keys = append(keys, data)
			plain = plain && openToAll(file)
		}
		if plain {
			continue
		}
		embedded, err := embed(keys...)
		if err != nil {
			return nil, fmt.Errorf("keyring %s: %w", signed, err)
		}
		out[i] = s.with("Signed-By", embedded)
	}
	return out, nil
}

// openToAll reports whether every user can read the file, and apt its name.
func openToAll(file string) bool {
	st, err := os.Stat(file)
	if err != nil || st.Mode()&0o004 == 0 || strings.Contains(file, ":") {
		return false
	}
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil || st.Mode()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

const (
	armorBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	armorEnd   = "-----END PGP PUBLIC KEY BLOCK-----"
)

func isArmored(keys []byte) bool { return bytes.HasPrefix(keys, []byte("-----BEGIN")) }

// embed renders keyrings as the value of Signed-By.
func embed(keyrings ...[]byte) (string, error) {
	var all []byte
	for _, k := range keyrings {
		if isArmored(k) {
			var err error
			if k, err = unarmor(k); err != nil {
				return "", err
			}
		}
		all = append(all, k...)
	}
	if len(all) == 0 || all[0]&0x80 == 0 { // RFC 9580, 4.2: the first bit of every packet is set
		return "", errors.New("it is no OpenPGP keyring: export the keys with gpg --export")
	}
	text := base64.StdEncoding.EncodeToString(all)
	lines := []string{"", armorBegin, "."}
	for ; len(text) > 64; text = text[64:] {
		lines = append(lines, text[:64])
	}
	sum := crc24(all)
	check := base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return strings.Join(append(lines, text, "="+check, armorEnd), "\n "), nil
}

// unarmor is the packets of one or several armoured blocks.
func unarmor(text []byte) ([]byte, error) {
	var all []byte
	var body strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "-----BEGIN"):
			inside = true
			body.Reset()
		case strings.HasPrefix(line, "-----END"):
			keys, err := base64.StdEncoding.DecodeString(body.String())
			if err != nil {
				return nil, fmt.Errorf("its armour is damaged: %w", err)
			}
			all, inside = append(all, keys...), false
		case inside && !strings.Contains(line, ":") && !strings.HasPrefix(line, "="): // no header, no checksum
			body.WriteString(line)
		}
	}
	return all, nil
}

// crc24 is the checksum of RFC 9580, 6.1.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc ^= uint32(b) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}
