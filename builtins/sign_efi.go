package builtins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/efi"
)

func signEFIOperation() lang.Operation {
	return lang.Operation{
		Name: "sign_efi",
		Doc: `programs of UEFI with a signature, for firmware with secure boot

image is one program, such as a unified kernel image of uki(); tree is a directory, such as
boot_files() makes, in which every program gets a signature: boot loaders, unified kernel
images, and kernels. sbsign (Debian package sbsigntool) signs. Signatures that a program
has stay.

The key is a secret(): it is read when the step runs, reaches sbsign in memory, and is
in nothing that is kept; keys of steps have a salted digest of it. It is an RSA key in PEM
without a passphrase. A signature tells the time at which it was made, so that the
step gives other bytes each time it runs; steps that read its result count by the step, not by
the bytes. bootable(secure_boot = ...) of @b9//boot.star makes a whole disk that is signed.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Doc: "the program"},
			{Name: "tree", Type: lang.Tree, Doc: "a directory with programs, in place of image"},
			{Name: "key", Type: lang.SecretText, Required: true, Doc: `the private key: secret(file = "db.key")`},
			{Name: "cert", Type: lang.File, Required: true, Doc: "the certificate of its public half, in PEM, which the firmware's variable db has to have"},
			lang.NameParam(),
		},
		Example: `sign_efi(":linux", name = "signed.efi", key = secret(file = "db.key"), cert = "db.pem")`,
		Make:    signEFIStep,
	}
}

func signEFIStep(c *lang.Call) (lang.Step, error) {
	s := &signEFI{Tree: c.Given("tree"), Key: secretFile{Name: "key"}}
	if c.Given("image") == c.Given("tree") {
		c.Errorf("give image or tree, one of them")
	}
	if v, ok := c.Value("key").(*lang.SecretValue); ok {
		s.Key.Origin = v.Origin
	}
	from, outputs := c.Input("image"), lang.OneFile("efi")
	if s.Tree {
		from, outputs = c.Input("tree"), lang.OneTree()
	}
	outputs[0].ByKey = true
	return lang.Step{
		Action: s, Outputs: outputs,
		Inputs: []lang.StepInput{{Role: "content", From: from}, {Role: "cert", From: c.Input("cert")}},
		Finish: s.Key.link,
	}, nil
}

// signEFI signs the program, or all programs in the directory, of the role "content" with
// the certificate of the role "cert".
type signEFI struct {
	Tree bool
	Key  secretFile
}

// Kind implements engine.Action.
func (*signEFI) Kind() string { return "sign_efi/1" }

// Tools implements engine.Tooled.
func (*signEFI) Tools() []engine.Tool { return efi.SignTools() }

// IsPrivate implements engine.Private, as for scripts with secrets.
func (*signEFI) IsPrivate() bool { return true }

// mostCertificate bounds a certificate in PEM, in bytes.
const mostCertificate = 64 << 10

// Run implements engine.Action.
func (s *signEFI) Run(ctx context.Context, job *engine.Job) error {
	key, err := s.Key.read(job)
	if err != nil {
		return err
	}
	cert, err := job.Input("cert").ReadAll(mostCertificate)
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	signer, err := efi.NewSigner(key, cert)
	if err != nil {
		return err
	}
	out := job.Output("")
	if s.Tree {
		if err := job.Input("content").Fork(ctx, out); err != nil {
			return err
		}
		return s.signAll(ctx, job, signer, out)
	}
	src, err := job.Expose(ctx, "content")
	if err != nil {
		return err
	}
	is, err := isProgram(src.Path)
	if err == nil && !is {
		err = errors.New("the image is no program of UEFI: of a disk or a file system sign what goes into it")
	}
	if err == nil {
		err = signer.Sign(ctx, out, src.Path)
	}
	return errors.Join(err, src.Close())
}

// signAll signs the programs below dir in place, which keep their permissions, and gives
// them and the directories of them the build's time.
func (s *signEFI) signAll(ctx context.Context, job *engine.Job, signer *efi.Signer, dir string) error {
	signed := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if is, err := isProgram(path); err != nil || !is {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		job.Logf("signing %s", name)
		signed++
		return signInPlace(ctx, job, signer, path)
	})
	if err == nil && signed == 0 {
		err = errors.New("no file of the directory is a program of UEFI")
	}
	return err
}

func signInPlace(ctx context.Context, job *engine.Job, signer *efi.Signer, path string) error {
	fresh := filepath.Join(job.Dir(), "signed.efi")
	if err := signer.Sign(ctx, fresh, path); err != nil {
		return err
	}
	was, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(fresh, was.Mode().Perm())
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		err = errors.Join(err, os.Chtimes(p, job.Epoch(), job.Epoch()))
	}
	return err
}

func isProgram(path string) (is bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	is, err = efi.IsProgram(f)
	return is, errors.Join(err, f.Close())
}
