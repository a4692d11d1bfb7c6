//! DNS (RFC 1035) over UDP or TCP.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::AsyncReadExt;

use super::expect::Expect;
use super::{Attempt, Exchange, Fault, PrepareError, datagram, excerpt, random, stream};
use crate::model::{DnsProbe, DnsRecord};

/// UDP answer size offered: what fits a packet everywhere (DNS flag day 2020).
const UDP_ANSWER: u16 = 1232;

/// A query and what its answer must be.
pub(super) struct Dns {
    query: Query,
    tcp: bool,
    expect: Expect,
}

impl Dns {
    pub fn prepare(wanted: &DnsProbe) -> Result<Self, PrepareError> {
        let name = match (wanted.record, wanted.query.parse::<IpAddr>()) {
            // The name of an address is asked for by its reverse form.
            (DnsRecord::Ptr, Ok(address)) => Name::from(address),
            (_, _) => {
                let parsed = Name::from_ascii(&wanted.query);
                let mut name = parsed.map_err(|error| PrepareError::Request(error.to_string()))?;
                name.set_fqdn(true);
                name
            }
        };
        Ok(Self {
            query: Query::query(name, record_type(wanted.record)),
            tcp: wanted.tcp,
            expect: Expect::new(&wanted.expect)?,
        })
    }

    pub fn is_tcp(&self) -> bool {
        self.tcp
    }

    pub async fn exchange(&self, attempt: &mut Attempt<'_>) -> Exchange {
        let (id, question) = self.question()?;
        if self.tcp {
            return self.over_tcp(attempt, id, &question).await;
        }
        let socket = stream::udp(attempt)?;
        let answer =
            datagram::ask(attempt, &socket, &question, "DNS answer", |bytes| self.read(id, bytes))
                .await?;
        if answer.metadata.truncation {
            return self.over_tcp(attempt, id, &question).await;
        }
        self.judge(&answer)
    }

    async fn over_tcp(&self, attempt: &mut Attempt<'_>, id: u16, question: &[u8]) -> Exchange {
        let mut stream = stream::open(attempt, None).await?;
        attempt.waiting_for = "DNS answer";
        let length = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes();
        let framed = [&length, question].concat();
        stream::send(&mut stream, &framed, "DNS answer").await?;
        let fault = |error| Fault::from_io(error, "DNS answer");
        let mut length = [0; 2];
        stream.read_exact(&mut length).await.map_err(fault)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).await.map_err(fault)?;
        let not_ours = || Err(Fault::malformed("an answer to another question"));
        self.judge(&self.read(id, &answer).unwrap_or_else(not_ours)?)
    }

    fn question(&self) -> Result<(u16, Vec<u8>), Fault> {
        let id = u16::from_be_bytes(random());
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_ANSWER);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(|error| Fault::Unable(error.to_string()))?;
        Ok((id, bytes))
    }

    /// Reads an answer; `None` when it is not to our question.
    fn read(&self, id: u16, bytes: &[u8]) -> Option<Result<Message, Fault>> {
        if bytes.get(..2) != Some(&id.to_be_bytes()) {
            return None;
        }
        let Ok(answer) = Message::from_vec(bytes) else {
            return Some(Err(Fault::malformed("an answer that is not DNS")));
        };
        let asked = answer.queries.first();
        // Some servers leave the question out of refusals.
        let ours = asked.is_none_or(|query| {
            query.name() == self.query.name() && query.query_type() == self.query.query_type()
        });
        (ours && answer.metadata.message_type == MessageType::Response).then_some(Ok(answer))
    }

    fn judge(&self, answer: &Message) -> Exchange {
        let code = answer.metadata.response_code;
        if code != ResponseCode::NoError {
            return Err(Fault::unexpected(code.to_str(), "No Error"));
        }
        let texts: Vec<String> = answer
            .answers
            .iter()
            .filter(|record| record.record_type() == self.query.query_type())
            .map(|record| record.data.to_string())
            .collect();
        if self.expect.is_anything() {
            return Ok(format!("{} answers", texts.len()));
        }
        let mut lacking = "an answer".to_owned();
        for text in &texts {
            match self.expect.lacking(text.as_bytes()) {
                None => return Ok(format!("answer {:?}", excerpt(text.as_bytes()))),
                Some(wanted) => lacking = wanted,
            }
        }
        let got = match texts.first() {
            Some(first) => format!("answer {:?}", excerpt(first.as_bytes())),
            None => "no answer".into(),
        };
        Err(Fault::unexpected(got, lacking))
    }
}

fn record_type(record: DnsRecord) -> RecordType {
    match record {
        DnsRecord::A => RecordType::A,
        DnsRecord::Aaaa => RecordType::AAAA,
        DnsRecord::Cname => RecordType::CNAME,
        DnsRecord::Mx => RecordType::MX,
        DnsRecord::Ns => RecordType::NS,
        DnsRecord::Ptr => RecordType::PTR,
        DnsRecord::Soa => RecordType::SOA,
        DnsRecord::Srv => RecordType::SRV,
        DnsRecord::Txt => RecordType::TXT,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{RData, Record, rdata};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::testing::*;
    use super::*;
    use crate::health::outcome::Failure;
    use crate::health::probe::Probe;
    use crate::model::{self, Expectation};

    fn dns(tcp: bool, expect: Option<&str>) -> Probe {
        prepare(model::Probe::Dns(DnsProbe {
            query: "www.example.org".into(),
            record: DnsRecord::A,
            tcp,
            expect: Expectation { regex: expect.map(str::to_owned), ..Expectation::default() },
        }))
    }

    /// What a server answers to a question.
    fn reply(question: &[u8], change: fn(&mut Message)) -> Vec<u8> {
        let question = Message::from_vec(question).unwrap();
        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        reply.add_queries(question.queries.clone());
        let address = RData::A(rdata::A::new(192, 0, 2, 10));
        reply.add_answer(Record::from_rdata(question.queries[0].name().clone(), 60, address));
        change(&mut reply);
        reply.to_vec().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_looked_up_over_udp_and_tcp() {
        let server = answers_udp(|question| vec![reply(question, |_| {})]).await;
        assert_eq!(passed(&dns(false, None), server).await, "1 answers");
        let said = passed(&dns(false, Some(r"^192\.0\.2\.")), server).await;
        assert_eq!(said, "answer \"192.0.2.10\"");
        let got = failed(&dns(false, Some("^10")), server).await;
        assert_eq!(got, Failure::unexpected("answer \"192.0.2.10\"", "/^10/"));

        let server = serve(|mut stream| async move {
            let mut question = [0; 512];
            let n = stream.read(&mut question).await.unwrap();
            let answer = reply(&question[2..n], |_| {});
            let length = (answer.len() as u16).to_be_bytes();
            stream.write_all(&[&length, answer.as_slice()].concat()).await.unwrap();
        })
        .await;
        assert_eq!(passed(&dns(true, None), server).await, "1 answers");
    }

    #[tokio::test]
    async fn errors_fail() {
        let server = answers_udp(|question| {
            vec![reply(question, |m| m.metadata.response_code = ResponseCode::ServFail)]
        });
        let got = failed(&dns(false, None), server.await).await;
        assert_eq!(got, Failure::unexpected("Server Failure", "No Error"));
        let empty = answers_udp(|question| vec![reply(question, |m| m.answers.clear())]).await;
        let got = failed(&dns(false, Some("x")), empty).await;
        assert_eq!(got, Failure::unexpected("no answer", "an answer"));
    }

    #[tokio::test]
    async fn answers_to_other_questions_are_passed_over() {
        let server = answers_udp(|question| {
            let mut other_id =
                reply(question, |m| m.metadata.response_code = ResponseCode::Refused);
            other_id[0] ^= 1;
            let other_name = reply(question, |m| {
                m.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
            });
            vec![other_id, other_name, reply(question, |_| {})]
        });
        assert_eq!(passed(&dns(false, None), server.await).await, "1 answers");
    }

    #[tokio::test]
    async fn a_lost_datagram_is_asked_again() {
        let server = loses_udp(2, |question| vec![reply(question, |_| {})]).await;
        let outcome = dns(false, None)
            .run(
                &crate::health::probe::Target::new(server),
                crate::health::fsm::Depth::Full,
                std::time::Duration::from_millis(900),
            )
            .await;
        assert!(outcome.reason().starts_with("1 answers"), "{}", outcome.reason());
    }

    #[tokio::test]
    async fn garbage_silence_and_a_closed_port_fail() {
        let server = answers_udp(|question| vec![question[..9].to_vec()]).await;
        let got = failed(&dns(false, None), server).await;
        assert_eq!(got, Failure::Malformed("an answer that is not DNS".into()));
        let quiet = answers_udp(|_| vec![]).await;
        times_out_waiting_for("DNS answer", &dns(false, None), quiet).await;
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(failed(&dns(false, None), closed).await, Failure::Refused);
    }

    #[test]
    fn the_name_of_an_address_is_asked_for_in_reverse() {
        let probe = DnsProbe {
            query: "192.0.2.10".into(),
            record: DnsRecord::Ptr,
            tcp: false,
            expect: Expectation::default(),
        };
        let name = Dns::prepare(&probe).unwrap().query.name().to_string();
        assert_eq!(name.trim_end_matches('.'), "10.2.0.192.in-addr.arpa");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let probe = Dns::prepare(&DnsProbe {
                query: "a.example".into(),
                record: DnsRecord::Txt,
                tcp: false,
                expect: Expectation::default(),
            }).unwrap();
            let id = u16::from_be_bytes([*bytes.first().unwrap_or(&0), *bytes.get(1).unwrap_or(&0)]);
            if let Some(Ok(answer)) = probe.read(id, &bytes) {
                let _ = probe.judge(&answer);
            }
        }
    }
}
