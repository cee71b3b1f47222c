#!/bin/sh
# Makes the chain that the TLS tests use: root.pem → intermediate → server.pem (127.0.0.1 and localhost), valid from
# 2020 to 2120 so that no clock matters. Keys of the authorities are thrown away; server.key protects nothing.
# Run it in this folder: sh make.sh
set -eu
here=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
: > index.txt
echo 1000 > serial
cat > ca.conf <<CONF
[ca]
default_ca = made
[made]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
default_startdate = 20200101000000Z
default_enddate = 21200101000000Z
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[req]
distinguished_name = name
[name]
CONF
for name in root intermediate server; do
    openssl ecparam -name prime256v1 -genkey -noout -out $name.key
    openssl req -new -config ca.conf -key $name.key -subj "/CN=mediabatch test $name" -out $name.csr
done
openssl ca -batch -notext -config ca.conf -selfsign -keyfile root.key -extensions authority -in root.csr -out root.pem
openssl ca -batch -notext -config ca.conf -cert root.pem -keyfile root.key -extensions authority -in intermediate.csr -out intermediate.pem
openssl ca -batch -notext -config ca.conf -cert intermediate.pem -keyfile intermediate.key -extensions leaf -in server.csr -out leaf.pem
cat leaf.pem intermediate.pem > "$here/server.pem"
cp root.pem server.key "$here"
