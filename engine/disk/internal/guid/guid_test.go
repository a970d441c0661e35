package guid

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestStoredBytesAreThoseOfTheSpecification(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" // an EFI system partition
	b, err := Parse("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := hex.DecodeString("28732ac11ff8d211ba4b00a0c93ec93b")
	if !bytes.Equal(b[:], want) {
		t.Errorf("stored as %x, want %x", b, want)
	}
	if got := String(b[:]); got != text {
		t.Errorf("text %s, want %s", got, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "c12a7328f81f11d2ba4b00a0c93ec93b", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "g12a7328-f81f-11d2-ba4b-00a0c93ec93b", "c12a7328-f81f-11d2-ba4b--0a0c93ec93b"} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q is taken for a GUID", s)
		}
	}
}

func TestFromHashHasVersionAndVariant(t *testing.T) {
	ones := [32]byte(bytes.Repeat([]byte{0xff}, 32))
	for sum, want := range map[[32]byte]string{{}: "00000000-0000-8000-8000-000000000000", ones: "ffffffff-ffff-8fff-bfff-ffffffffffff"} {
		if got := Text(FromHash(sum)); got != want {
			t.Errorf("%x: %s, want %s", sum, got, want)
		}
	}
}
