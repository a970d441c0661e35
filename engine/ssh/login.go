package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"b9.build/b9/engine/ssh/config"
)

// login gathers the keys to log in to one server with.
type login struct {
	host  *config.Host
	o     *Options
	pause func() (resume func()) // stops the clock while a person is asked
	tried []string               // for the message when all are refused

	mu     sync.Mutex // guards what follows, which the end of a wait closes
	agent  net.Conn
	closed bool

	// failed is why a key that the server takes could not be used.
	failed error
}

// close ends the connection to the agent.
func (l *login) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.agent != nil {
		l.agent.Close()
	}
}

// cut returns a function that interrupts whoever waits for the server, or for an agent
// that does not answer.
func (l *login) cut(server net.Conn) func() error {
	return func() error {
		l.close()
		return server.Close()
	}
}

// connect takes over the connection to the agent, unless the login was closed.
func (l *login) connect(agent net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(net.ErrClosed, agent.Close())
	}
	l.agent = agent
	return nil
}

// signers lists the keys in the order of ssh(1): those of the agent that
// the configuration names, the agent's others, then those only in files.
func (l *login) signers(ctx context.Context) []ssh.Signer {
	files := l.identities(ctx)
	held := l.agentSigners(ctx)
	isNamed := func(s ssh.Signer) bool {
		return slices.ContainsFunc(files, func(f *fileKey) bool { return sameKey(f.public, plainKey(s.PublicKey())) })
	}
	others := slices.DeleteFunc(slices.Clone(held), isNamed)
	list := slices.DeleteFunc(slices.Clone(held), func(s ssh.Signer) bool { return !isNamed(s) })
	if !l.host.IdentitiesOnly {
		list = append(list, others...)
	}
	list = append(list, l.certified(files, list)...)
	for _, f := range files {
		if f.path != "" && !slices.ContainsFunc(held, func(s ssh.Signer) bool { return sameKey(s.PublicKey(), f.public) }) {
			list = append(list, f)
			l.note("%s (%s)", f.path, fingerprint(f.public))
		}
	}
	return list
}

// refused tells which keys the server did not take.
func (l *login) refused() error {
	if len(l.tried) == 0 {
		return fmt.Errorf("log in to %s: there is no key to log in with, neither a file nor in an agent: make one with `ssh-keygen -t ed25519`, and add its public half to ~/.ssh/authorized_keys there", l.host)
	}
	return fmt.Errorf("log in to %s: the server takes none of the keys (%s): add a public one to ~/.ssh/authorized_keys there, for example with `ssh-copy-id`",
		l.host, strings.Join(l.tried, "; "))
}

func (l *login) note(format string, args ...any) {
	l.tried = append(l.tried, fmt.Sprintf(format, args...))
}

func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// agentSigners lists the keys of the agent, if there is one.
func (l *login) agentSigners(ctx context.Context) []ssh.Signer {
	if l.host.Agent == "" {
		return nil
	}
	var signers []ssh.Signer
	conn, err := new(net.Dialer).DialContext(ctx, "unix", l.host.Agent)
	if err == nil {
		err = l.connect(conn)
	}
	if err == nil {
		signers, err = agent.NewClient(conn).Signers()
	}
	if err != nil {
		l.note("no agent (%v)", err)
	}
	for _, s := range signers {
		l.note("agent key %s", fingerprint(s.PublicKey()))
	}
	return signers
}

// identities reads the public halves of the key files. A file that is not
// there is passed over, as the defaults mostly are.
func (l *login) identities(ctx context.Context) []*fileKey {
	paths := l.host.Identities
	if paths == nil {
		for _, name := range []string{"id_rsa", "id_ecdsa", "id_ed25519"} {
			paths = append(paths, filepath.Join(l.o.home(), ".ssh", name))
		}
	}
	var keys []*fileKey
	for _, path := range paths {
		key, err := l.identity(ctx, path)
		switch {
		case err == nil:
			keys = append(keys, key)
		case l.host.Identities != nil || !errors.Is(err, fs.ErrNotExist):
			l.note("%v", err)
		}
	}
	return keys
}

// identity prepares one key file. Where the private half is not there the
// public one still says which of the agent's keys is meant.
func (l *login) identity(ctx context.Context, path string) (*fileKey, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		public, perr := readPublic(path + ".pub")
		if perr != nil {
			return nil, err
		}
		return &fileKey{public: public}, nil
	}
	if err != nil {
		return nil, err
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(data); err == nil {
		return &fileKey{public: public}, nil // IdentityFile may name the public half
	}
	key := &fileKey{path: path}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case err == nil:
		key.public, key.open = signer.PublicKey(), func() (ssh.Signer, error) { return signer, nil }
		return key, nil
	case !errors.As(err, &locked):
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if key.public = locked.PublicKey; key.public == nil {
		if key.public, err = readPublic(path + ".pub"); err != nil {
			return nil, fmt.Errorf("%s is protected by a passphrase and in a format that hides its public half: %w", path, err)
		}
	}
	key.open = func() (ssh.Signer, error) { return l.unlock(ctx, path, data) }
	return key, nil
}

// readPrivate reads a private key that no one else may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(path, ".pub") {
		return nil, fmt.Errorf("%s: others may read it (mode %04o), so it is not used: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// readPublic reads a file with a public key or a certificate.
func readPublic(path string) (ssh.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// passphraseTries is how often a person may mistype.
const passphraseTries = 3

// unlock opens a key with its passphrase.
func (l *login) unlock(ctx context.Context, path string, data []byte) (ssh.Signer, error) {
	resume := l.pause()
	defer resume()
	s, err := l.o.Keys.open(path, func() (ssh.Signer, error) { return l.ask(ctx, path, data) })
	l.failed = err
	return s, err
}

// ask asks for the passphrase of a key.
func (l *login) ask(ctx context.Context, path string, data []byte) (ssh.Signer, error) {
	if l.o.Passphrase == nil {
		return nil, fmt.Errorf("%s is protected by a passphrase, and nobody can be asked for it here: add it to the agent with `ssh-add %s`", path, path)
	}
	for try := range passphraseTries {
		phrase, err := l.o.Passphrase(ctx, path, try > 0)
		if err != nil {
			return nil, fmt.Errorf("passphrase of %s: %w", path, err)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(data, phrase)
		clear(phrase)
		if err == nil {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("%s: the passphrase was wrong %d times", path, passphraseTries)
}

// certified pairs the user certificates with the keys they are for.
func (l *login) certified(files []*fileKey, held []ssh.Signer) []ssh.Signer {
	paths, candidates := slices.Clone(l.host.Certificates), slices.Clone(held)
	for _, f := range files {
		if f.path != "" {
			paths = append(paths, f.path+"-cert.pub")
			candidates = append(candidates, f)
		}
	}
	var list []ssh.Signer
	for _, path := range paths {
		cert, err := readCertificate(path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				l.note("%v", err)
			}
			continue
		}
		for _, s := range candidates {
			if signer, err := ssh.NewCertSigner(cert, s); err == nil {
				list = append(list, signer)
				l.note("%s (certificate %q)", path, cert.KeyId)
				break
			}
		}
	}
	return list
}

func readCertificate(path string) (*ssh.Certificate, error) {
	key, err := readPublic(path)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.UserCert {
		return nil, fmt.Errorf("%s is no certificate for a user", path)
	}
	return cert, nil
}

// fileKey is a key in a file, opened when the server has agreed to take it.
type fileKey struct {
	public ssh.PublicKey
	path   string // "" where only the public half is there
	open   func() (ssh.Signer, error)
}

// PublicKey implements ssh.Signer.
func (k *fileKey) PublicKey() ssh.PublicKey { return k.public }

// Algorithms implements ssh.MultiAlgorithmSigner: RSA signs with SHA-2 only, RFC
// 8332.
func (k *fileKey) Algorithms() []string {
	if kind := k.public.Type(); kind != ssh.KeyAlgoRSA {
		return []string{kind}
	}
	return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

// Sign implements ssh.Signer.
func (k *fileKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(rand, data, k.Algorithms()[0])
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (k *fileKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := k.open()
	if err != nil {
		return nil, err
	}
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return signer.Sign(rand, data)
	}
	return as.SignWithAlgorithm(rand, data, algorithm)
}
