// This file is nkeys: Ed25519 keys in base32 with a prefix and a checksum (github.com/nats-io/nkeys). A seed is
//
//	S and the kind, 10 bits in the first two bytes; 32 bytes; CRC-16 (XMODEM), little-endian

package dialect

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

const (
	natsSeedPrefix = 18 << 3 // S
	natsSeedSize   = 2 + ed25519.SeedSize + 2
)

var natsBase32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// natsKey reads a seed, and returns the public key and what signs a nonce.
func natsKey(seed string) (public string, sign func(nonce string) string, err error) {
	raw, err := natsBase32.DecodeString(seed)
	if err != nil || len(raw) != natsSeedSize || raw[0]&0xf8 != natsSeedPrefix || binary.LittleEndian.Uint16(raw[natsSeedSize-2:]) != natsCRC(raw[:natsSeedSize-2]) {
		return "", nil, errors.New("is none of an nkey, which begins with S and has 58 characters")
	}
	kind := raw[0]<<5 | raw[1]>>3
	key := ed25519.NewKeyFromSeed(raw[2 : 2+ed25519.SeedSize])
	open := append([]byte{kind}, key.Public().(ed25519.PublicKey)...)
	open = binary.LittleEndian.AppendUint16(open, natsCRC(open))
	return natsBase32.EncodeToString(open), func(nonce string) string {
		return base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(nonce)))
	}, nil
}

// natsCRC is CRC-16 with the polynomial 0x1021.
func natsCRC(data []byte) (crc uint16) {
	for _, b := range data {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
