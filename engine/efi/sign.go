package efi

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/tool"
)

// SignTools are the programs that [Signer.Sign] calls.
func SignTools() []tool.Program {
	return []tool.Program{{Name: "sbsign", VersionArgs: []string{"--version"}}}
}

// Signer signs programs for secure boot (UEFI specification 2.10, section 32.2.4, and
// Microsoft's Authenticode). It has the key in memory, and gives it to sbsign in memory.
type Signer struct {
	key, cert []byte // PEM
}

// NewSigner returns a signer with an RSA key without a passphrase and the certificate of
// its public half, both in PEM. Errors tell nothing of the key.
func NewSigner(key, cert []byte) (*Signer, error) {
	private, err := privateKey(key)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	b, _ := pem.Decode(cert)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("the certificate is none in PEM (-----BEGIN CERTIFICATE-----): openssl x509 -inform DER turns one in DER into that")
	}
	public, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	if !private.PublicKey.Equal(public.PublicKey) {
		return nil, fmt.Errorf("the certificate (%s) is for another key", public.Subject)
	}
	return &Signer{key, cert}, nil
}

// privateKey reads an RSA key. No error of a parser is passed on: what it says could be of
// the key.
func privateKey(text []byte) (*rsa.PrivateKey, error) {
	b, _ := pem.Decode(text)
	switch {
	case b == nil:
		return nil, errors.New("it is none in PEM (-----BEGIN PRIVATE KEY-----)")
	case b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "":
		return nil, errors.New("it has a passphrase, for which nobody can be asked: openssl rsa -in KEY -out NEW writes it without one")
	}
	if key, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if key, ok := key.(*rsa.PrivateKey); ok && err == nil {
		return key, nil
	}
	if err == nil || b.Type == "EC PRIVATE KEY" {
		return nil, errors.New("it is none of RSA, which is what firmware knows")
	}
	return nil, fmt.Errorf("what the PEM holds (%s) can't be read", b.Type)
}

// Sign signs the program in the file src and writes it to a new file dst. Signatures that
// it has stay. A signature holds the time at which it was made.
func (s *Signer) Sign(ctx context.Context, dst, src string) (err error) {
	sbsign, err := tool.Find("sbsign")
	if err != nil {
		return errors.New("sbsign is not installed: install the Debian package " + tool.Package("sbsign"))
	}
	cmd := exec.CommandContext(ctx, sbsign, "--key", "/proc/self/fd/3", "--cert", "/proc/self/fd/4", "--output", dst, src)
	for _, text := range [][]byte{s.key, s.cert} {
		f, err := inMemory(text)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &tool.Failure{Program: "sbsign", Code: exit.ExitCode(), Output: string(out)}
	}
	if err != nil {
		return fmt.Errorf("sbsign: %w", err)
	}
	return nil
}

// inMemory is a file that is nowhere but in memory.
func inMemory(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("b9", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "b9")
	if _, err := f.WriteAt(text, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
