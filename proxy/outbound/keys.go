package outbound

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Keys are what stands in the files of UPSTREAM_CA, UPSTREAM_CERT and UPSTREAM_KEY.
type Keys struct {
	Roots  []*x509.Certificate // one of which a server's certificate is signed by; none: whom the system trusts
	Client *tls.Certificate    // that is shown to servers, with its Leaf; nil: none
}

// ParseRoots reads the certificates of authorities. The error says what is wrong and the fix, and quotes nothing.
func ParseRoots(text []byte) (roots []*x509.Certificate, err error) {
	for n := 1; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				return nil, errors.New("holds a private key; give the certificates of the authorities that sign the upstream's certificate")
			}
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a certificate that cannot be read (number %d); give the authorities' certificates in PEM", n)
		}
		roots = append(roots, cert)
	}
	if len(roots) == 0 {
		return nil, errors.New("holds no certificate in PEM; give the certificates of the authorities that sign the upstream's certificate, each from -----BEGIN CERTIFICATE----- on")
	}
	return roots, nil
}

// What is wrong with a pair of files, of which the one or the other is to blame.
type (
	// CertError is about the certificate.
	CertError struct{ error }
	// KeyError is about the key.
	KeyError struct{ error }
)

// ParsePair reads a client certificate and its key. It fails with a [CertError] or [KeyError], which says what is wrong and the fix, and quotes nothing.
func ParsePair(cert, key []byte) (*tls.Certificate, error) {
	if err := holdsCertificate(cert); err != nil {
		return nil, CertError{err}
	}
	if err := holdsKey(key); err != nil {
		return nil, KeyError{err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err == nil:
		return &pair, nil
	case strings.Contains(err.Error(), "does not match"):
		return nil, KeyError{errors.New("is not the key of the certificate in UPSTREAM_CERT; give the two that were made together, in UPSTREAM_CERT the client's own certificate first")}
	}
	return nil, KeyError{errors.New("and the certificate in UPSTREAM_CERT cannot be used together; give an RSA, ECDSA or Ed25519 key in PEM and its certificate")}
}

func holdsCertificate(text []byte) error {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return errors.New("holds no certificate in PEM; give the client's certificate, followed by the intermediate ones if there are any")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return errors.New("holds a certificate that cannot be read; give the client's certificate in PEM")
		}
		return nil
	}
}

func holdsKey(text []byte) error {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return errors.New("holds no private key in PEM; give the key of the certificate in UPSTREAM_CERT")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return errors.New("holds a key that is encrypted, and there is no one to ask for its password; decrypt it (openssl pkey -in KEY -out PLAIN) and protect the file by its mode")
		}
		return nil
	}
}

// same reports whether two texts of keys are the same.
func same(a, b *Keys) bool {
	if len(a.Roots) != len(b.Roots) || (a.Client == nil) != (b.Client == nil) {
		return false
	}
	for i := range a.Roots {
		if !a.Roots[i].Equal(b.Roots[i]) {
			return false
		}
	}
	if a.Client == nil {
		return true
	}
	if len(a.Client.Certificate) != len(b.Client.Certificate) {
		return false
	}
	for i := range a.Client.Certificate {
		if !bytes.Equal(a.Client.Certificate[i], b.Client.Certificate[i]) {
			return false
		}
	}
	return true // a certificate has one key
}

// Describe tells of a certificate: who it is for, who signed it, and until when.
func Describe(c *x509.Certificate, now time.Time) string {
	text := fmt.Sprintf("%s, issued by %s, until %s", name(c.Subject.String(), c), name(c.Issuer.String(), nil), c.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	return text + validity(c, now)
}

// validity is what there is to say of it now, "" while it is valid.
func validity(c *x509.Certificate, now time.Time) string {
	switch {
	case now.After(c.NotAfter):
		return " (expired)"
	case now.Before(c.NotBefore):
		return " (not valid yet)"
	}
	return ""
}

// name is a distinguished name; where there is none, a name that the certificate is for.
func name(distinguished string, c *x509.Certificate) string {
	switch {
	case distinguished != "":
		return distinguished
	case c != nil && len(c.URIs) > 0: // SPIFFE
		return c.URIs[0].String()
	case c != nil && len(c.DNSNames) > 0:
		return c.DNSNames[0]
	}
	return "no name"
}
