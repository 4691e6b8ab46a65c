"""Language codes: what is accepted, how it is written, what it is called.

Codes are BCP 47 (RFC 5646): a language of ISO 639-1, or of ISO 639-2/639-3 where it has no
two-letter code, or a private one (``qaa`` to ``qtz``), then optionally a script and a region.
What corpora call them is accepted and normalised: ``zh_cn`` becomes ``zh-CN``, ``sr@latin``
``sr-Latn``, ``deu`` and ``ger`` ``de``. The tables hold all of ISO 639-1 and those living languages
of ISO 639-2 and 639-3 that multilingual corpora and models name.
"""

from __future__ import annotations

import difflib
import re
from functools import cache

from weam_ray.errors import ConfigError

_TWO = """
aa Afar; ab Abkhazian; ae Avestan; af Afrikaans; ak Akan; am Amharic; an Aragonese; ar Arabic;
as Assamese; av Avaric; ay Aymara; az Azerbaijani; ba Bashkir; be Belarusian; bg Bulgarian; bh
Bihari; bi Bislama; bm Bambara; bn Bengali; bo Tibetan; br Breton; bs Bosnian; ca Catalan; ce
Chechen; ch Chamorro; co Corsican; cr Cree; cs Czech; cu Church Slavic; cv Chuvash; cy Welsh; da
Danish; de German; dv Dhivehi; dz Dzongkha; ee Ewe; el Greek; en English; eo Esperanto; es
Spanish; et Estonian; eu Basque; fa Persian; ff Fulah; fi Finnish; fj Fijian; fo Faroese; fr
French; fy Western Frisian; ga Irish; gd Scottish Gaelic; gl Galician; gn Guarani; gu Gujarati;
gv Manx; ha Hausa; he Hebrew; hi Hindi; ho Hiri Motu; hr Croatian; ht Haitian; hu Hungarian; hy
Armenian; hz Herero; ia Interlingua; id Indonesian; ie Interlingue; ig Igbo; ii Sichuan Yi; ik
Inupiaq; io Ido; is Icelandic; it Italian; iu Inuktitut; ja Japanese; jv Javanese; ka Georgian;
kg Kongo; ki Kikuyu; kj Kuanyama; kk Kazakh; kl Kalaallisut; km Khmer; kn Kannada; ko Korean; kr
Kanuri; ks Kashmiri; ku Kurdish; kv Komi; kw Cornish; ky Kirghiz; la Latin; lb Luxembourgish; lg
Ganda; li Limburgan; ln Lingala; lo Lao; lt Lithuanian; lu Luba-Katanga; lv Latvian; mg
Malagasy; mh Marshallese; mi Maori; mk Macedonian; ml Malayalam; mn Mongolian; mr Marathi; ms
Malay; mt Maltese; my Burmese; na Nauru; nb Norwegian Bokmål; nd North Ndebele; ne Nepali; ng
Ndonga; nl Dutch; nn Norwegian Nynorsk; no Norwegian; nr South Ndebele; nv Navajo; ny Nyanja; oc
Occitan; oj Ojibwa; om Oromo; or Oriya; os Ossetian; pa Panjabi; pi Pali; pl Polish; ps Pushto;
pt Portuguese; qu Quechua; rm Romansh; rn Rundi; ro Romanian; ru Russian; rw Kinyarwanda; sa
Sanskrit; sc Sardinian; sd Sindhi; se Northern Sami; sg Sango; si Sinhala; sk Slovak; sl
Slovenian; sm Samoan; sn Shona; so Somali; sq Albanian; sr Serbian; ss Swati; st Southern Sotho;
su Sundanese; sv Swedish; sw Swahili; ta Tamil; te Telugu; tg Tajik; th Thai; ti Tigrinya; tk
Turkmen; tl Tagalog; tn Tswana; to Tonga; tr Turkish; ts Tsonga; tt Tatar; tw Twi; ty Tahitian;
ug Uighur; uk Ukrainian; ur Urdu; uz Uzbek; ve Venda; vi Vietnamese; vo Volapük; wa Walloon; wo
Wolof; xh Xhosa; yi Yiddish; yo Yoruba; za Zhuang; zh Chinese; zu Zulu
"""

_THREE = """
abq Abaza; ace Achinese; ach Acoli; acm Mesopotamian Arabic; acq Ta'izzi-Adeni Arabic; ada
Adangme; ady Adyghe; aeb Tunisian Arabic; ain Ainu; ajp South Levantine Arabic; ale Aleut; als
Tosk Albanian; alt Southern Altai; anp Angika; apc North Levantine Arabic; arb Standard Arabic;
arn Mapudungun; arp Arapaho; ars Najdi Arabic; arw Arawak; ary Moroccan Arabic; arz Egyptian
Arabic; ast Asturian; awa Awadhi; ayr Central Aymara; azb South Azerbaijani; azj North
Azerbaijani; bal Baluchi; ban Balinese; bar Bavarian; bas Basa; bej Beja; bem Bemba; bho
Bhojpuri; bik Bikol; bin Bini; bjn Banjar; bla Siksika; bra Braj; bua Buriat; bug Buginese; bxr
Russia Buriat; byn Bilin; cad Caddo; car Galibi Carib; ceb Cebuano; chk Chuukese; chm Mari; chn
Chinook jargon; cho Choctaw; chp Chipewyan; chr Cherokee; chy Cheyenne; ckb Central Kurdish; cmn
Mandarin Chinese; cnr Montenegrin; crh Crimean Tatar; crs Seselwa Creole French; csb Kashubian;
dak Dakota; dar Dargwa; del Delaware; den Slave; dgr Dogrib; din Dinka; doi Dogri; dsb Lower
Sorbian; dua Duala; dyu Dyula; efi Efik; eka Ekajuk; ekk Standard Estonian; ewo Ewondo; fan
Fang; fat Fanti; fil Filipino; fon Fon; frp Arpitan; frr Northern Frisian; frs Eastern Frisian;
fur Friulian; fuv Nigerian Fulfulde; gaa Ga; gay Gayo; gaz West Central Oromo; gba Gbaya; gcf
Guadeloupean Creole French; gil Gilbertese; gom Goan Konkani; gon Gondi; gor Gorontalo; grb
Grebo; gsw Swiss German; gwi Gwichʼin; hai Haida; hak Hakka Chinese; haw Hawaiian; hil
Hiligaynon; hmn Hmong; hne Chhattisgarhi; hsb Upper Sorbian; hup Hupa; iba Iban; ilo Iloko; inh
Ingush; jam Jamaican Creole English; jpr Judeo-Persian; jrb Judeo-Arabic; kaa Kara-Kalpak; kab
Kabyle; kac Kachin; kam Kamba; kbd Kabardian; kbp Kabiyè; kea Kabuverdianu; kha Khasi; khk Halh
Mongolian; kmb Kimbundu; kmr Northern Kurdish; knc Central Kanuri; koi Komi-Permyak; kok
Konkani; kos Kosraean; kpe Kpelle; kpv Komi-Zyrian; krc Karachay-Balkar; krl Karelian; kru
Kurukh; ksh Kölsch; kum Kumyk; kut Kutenai; lad Ladino; lah Lahnda; lam Lamba; lbe Lak; lez
Lezghian; lij Ligurian; liv Liv; lmo Lombard; lol Mongo; loz Lozi; ltg Latgalian; lua
Luba-Lulua; lun Lunda; luo Luo; lus Lushai; lvs Standard Latvian; lzh Literary Chinese; mad
Madurese; mag Magahi; mai Maithili; mak Makasar; man Mandingo; mas Masai; mdf Moksha; mdr
Mandar; men Mende; mhr Eastern Mari; mic Mi'kmaq; min Minangkabau; mnc Manchu; mni Manipuri; moh
Mohawk; mos Mossi; mrj Western Mari; mus Creek; mwl Mirandese; mwr Marwari; myv Erzya; nan Min
Nan Chinese; nap Neapolitan; nds Low German; new Newari; nia Nias; niu Niuean; nog Nogai; npi
Nepali; nqo N'Ko; nso Pedi; nus Nuer; nym Nyamwezi; nyn Nyankole; nyo Nyoro; nzi Nzima; ory
Odia; osa Osage; pag Pangasinan; pam Pampanga; pap Papiamento; pau Palauan; pcm Nigerian Pidgin;
pdc Pennsylvania German; pes Iranian Persian; pfl Pfaelzisch; plt Plateau Malagasy; pnb Western
Panjabi; pon Pohnpeian; prs Dari; quy Ayacucho Quechua; raj Rajasthani; rap Rapanui; rar
Rarotongan; rmy Vlax Romani; rom Romany; rue Rusyn; rup Macedo-Romanian; sad Sandawe; sah Yakut;
sas Sasak; sat Santali; scn Sicilian; sco Scots; sdh Southern Kurdish; sel Selkup; sgs
Samogitian; shn Shan; sid Sidamo; sma Southern Sami; smj Lule Sami; smn Inari Sami; sms Skolt
Sami; snk Soninke; srn Sranan Tongo; srr Serer; stq Saterfriesisch; suk Sukuma; sus Susu; swh
Swahili; syr Syriac; szl Silesian; tab Tabassaran; taq Tamasheq; tem Timne; ter Tereno; tet
Tetum; tig Tigre; tiv Tiv; tkl Tokelau; tli Tlingit; tmh Tamashek; tog Tonga; tpi Tok Pisin; tsi
Tsimshian; tum Tumbuka; tvl Tuvalu; tyv Tuvinian; tzm Central Atlas Tamazight; udm Udmurt; umb
Umbundu; uzn Northern Uzbek; vai Vai; vec Venetian; vep Veps; vot Votic; vro Võro; wae Walser;
wal Wolaytta; war Waray; was Washo; wuu Wu Chinese; xal Kalmyk; yao Yao; yap Yapese; ydd Eastern
Yiddish; yue Yue Chinese; zap Zapotec; zen Zenaga; zgh Standard Moroccan Tamazight; zsm Standard
Malay; zun Zuni; zza Zaza
"""

_ALIASES = """
aar aa; abk ab; afr af; aka ak; alb sq; amh am; ara ar; arg an; arm hy; asm as; ava av; ave ae;
aym ay; aze az; bak ba; bam bm; baq eu; bel be; ben bn; bih bh; bis bi; bod bo; bos bs; bre br;
bul bg; bur my; cat ca; ces cs; cha ch; che ce; chi zh; chu cu; chv cv; cor kw; cos co; cre cr;
cym cy; cze cs; dan da; deu de; div dv; dut nl; dzo dz; ell el; eng en; epo eo; est et; eus eu;
ewe ee; fao fo; fas fa; fij fj; fin fi; fra fr; fre fr; fry fy; ful ff; geo ka; ger de; gla gd;
gle ga; glg gl; glv gv; gre el; grn gn; guj gu; hat ht; hau ha; heb he; her hz; hin hi; hmo ho;
hrv hr; hun hu; hye hy; ibo ig; ice is; ido io; iii ii; iku iu; ile ie; ina ia; ind id; ipk ik;
isl is; ita it; jav jv; jpn ja; kal kl; kan kn; kas ks; kat ka; kau kr; kaz kk; khm km; kik ki;
kin rw; kir ky; kom kv; kon kg; kor ko; kua kj; kur ku; lao lo; lat la; lav lv; lim li; lin ln;
lit lt; ltz lb; lub lu; lug lg; mac mk; mah mh; mal ml; mao mi; mar mr; may ms; mkd mk; mlg mg;
mlt mt; mon mn; mri mi; msa ms; mya my; nau na; nav nv; nbl nr; nde nd; ndo ng; nep ne; nld nl;
nno nn; nob nb; nor no; nya ny; oci oc; oji oj; ori or; orm om; oss os; pan pa; per fa; pli pi;
pol pl; por pt; pus ps; que qu; roh rm; ron ro; rum ro; run rn; rus ru; sag sg; san sa; sin si;
slk sk; slo sk; slv sl; sme se; smo sm; sna sn; snd sd; som so; sot st; spa es; sqi sq; srd sc;
srp sr; ssw ss; sun su; swa sw; swe sv; tah ty; tam ta; tat tt; tel te; tgk tg; tgl tl; tha th;
tib bo; tir ti; ton to; tsn tn; tso ts; tuk tk; tur tr; twi tw; uig ug; ukr uk; urd ur; uzb uz;
ven ve; vie vi; vol vo; wel cy; wln wa; wol wo; xho xh; yid yi; yor yo; zha za; zho zh; zul zu
"""
_SHAPE = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)(?P<private>-x(?:-[a-z0-9]{1,8})+)?"
)
_PRIVATE = re.compile(r"q[a-t][a-z]")
# Locale modifiers of GNOME's and KDE's translations, as OPUS keeps them.
_MODIFIERS = {"@latin": "-latn", "@cyrillic": "-cyrl", "@valencia": "-valencia"}


@cache
def language_names() -> dict[str, str]:
    """English name of every language code in the tables."""
    entries = f"{_TWO};{_THREE}".replace("\n", " ").split(";")
    return dict(entry.split(maxsplit=1) for entry in map(str.strip, entries))


@cache
def _aliases() -> dict[str, str]:
    return dict(entry.split() for entry in _ALIASES.replace("\n", " ").split(";"))


def normalise_language(code: str, place: str | None = None) -> str:
    """The canonical form of a language code, with its script and region if it names them.

    Raises:
        ConfigError: not a code, or not a language; the nearest one is named.
    """
    text = code.strip().lower()
    for modifier, subtag in _MODIFIERS.items():
        text = text.replace(modifier, subtag)
    shape = _SHAPE.fullmatch(text.replace("_", "-"))
    language = _aliases().get(shape["language"], shape["language"]) if shape else ""
    if not shape or not (language in language_names() or _PRIVATE.fullmatch(language)):
        raise ConfigError(f"unknown language code {code!r}.", place=place, cure=_suggestion(code))
    subtags = [language]
    if shape["script"]:
        subtags.append(shape["script"].title())
    if shape["region"]:
        subtags.append(shape["region"].upper())
    return "-".join(subtags) + shape["variants"] + (shape["private"] or "")


def primary_language(code: str) -> str:
    """The language of a code without script and region: ``zh`` of ``zh-TW``, ``de`` of ``deu``."""
    return normalise_language(code).split("-", 1)[0]


def is_private(code: str) -> bool:
    """Whether a code is for private use (``qaa`` to ``qtz``): an artificial language."""
    return _PRIVATE.fullmatch(primary_language(code)) is not None


def language_name(code: str) -> str:
    """What a report calls a language: ``German``, ``Chinese (CN)``, ``qaa``."""
    language, _, rest = normalise_language(code).partition("-")
    name = language_names().get(language, language)
    return f"{name} ({rest})" if rest else name


def _suggestion(code: str) -> str:
    names = language_names()
    by_name = {name.lower(): known for known, name in names.items()}
    wanted = re.split(r"[-_@]", code.strip().lower())[0]
    known: str | None = None
    if found := difflib.get_close_matches(wanted, by_name, n=1, cutoff=0.75):
        known = by_name[found[0]]
    elif found := difflib.get_close_matches(wanted, [*names, *_aliases()], n=1, cutoff=0.3):
        known = _aliases().get(found[0], found[0])
    if known:
        return f"The nearest is {known!r} ({names[known]}). Codes are BCP 47: en, zh-TW, qaa."
    return "Codes are BCP 47: en, zh-TW, and qaa to qtz for private use."
